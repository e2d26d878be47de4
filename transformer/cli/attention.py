"""`transformer attention`: draws what each head of each layer looks at."""

import argparse
from pathlib import Path

from transformer.cli.arguments import Commands, add_model, check_model, search_settings
from transformer.cli.output import write_out
from transformer.data.cleaning import resolve_entities


def add(commands: Commands) -> None:
    """Its options."""
    command = commands.add_parser(
        "attention",
        help="draw what each head of each layer attends to",
        description="Draw what each head of each layer attends to: encoder.png, decoder.png and cross.png in FOLDER.",
    )
    command.set_defaults(run=attention)
    option = command.add_argument
    option("sentence", metavar="SENTENCE", help="in the model's source language")
    option("--out", type=Path, required=True, metavar="FOLDER", help="where the pictures are written")
    option("--target", metavar="TRANSLATION", help="its translation (default: the model's own, which is printed)")
    option("--layer", type=int, action="append", default=[], metavar="N", help="a layer, from 1 (default: all)")
    option("--head", type=int, action="append", default=[], metavar="N", help="a head, from 1 (default: all)")
    add_model(command)


def attention(options: argparse.Namespace) -> None:
    """`transformer attention`: heat maps of a sentence and its translation, by default the model's own.

    Raises:
        ParamsError: the model has no such layer or head.
        DataError: a sentence is empty or too long, or the model folder is missing or malformed.
    """
    check_model(options.model)
    decoding = search_settings(options)
    from transformer.decoding.translator import Translator
    from transformer.evaluation.attention import attention_maps
    from transformer.evaluation.attention_plots import draw_attention

    translator = Translator.load(options.model, options.device, decoding)
    sentence = resolve_entities(options.sentence)
    if options.target is None:
        target = translator.translate([sentence])[0]
        write_out(f"{target}\n")
    else:
        target = resolve_entities(options.target)
    maps = attention_maps(translator.model, translator.vocabulary, sentence, target)
    for path in draw_attention(options.out, maps, options.layer, options.head):
        write_out(f"{path}\n")
