# ruff: noqa: E501  # a table: each value and what is said of it on one line
"""Wrong values of params.yaml: each is refused before any work, in one line that names the key and helps."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_inputs import CHECKOUT

from transformer.data.download.chosen import check_choice
from transformer.errors import ParamsError
from transformer.params import Params, parse_params
from transformer.relations import kept_updates
from transformer.section import Section

TEXT = (CHECKOUT / "presets" / "interface-strings.yaml").read_text(encoding="utf-8")
REGISTRY = Path("data/corpora.yaml")  # its name in errors

INTEGER, NUMBER, TEXT_WANTED = "should be a valid integer", "should be a valid number", "should be a valid string"
# As they are written in params.yaml; several keys at once where a relation needs it. The first one is named.
WRONG: list[tuple[dict[str, str], str]] = [
    # languages
    ({"languages.source": "de"}, "languages.target = 'de': the source, 'de', is the same language; name another one"),
    ({"languages.target": "en"}, "languages.target = 'en': the source, 'en', is the same"),
    ({"languages.target": "EN"}, "languages.target = 'EN': the source, 'en', is the same"),
    ({"languages.target": "d"}, "languages.target = 'd': 'd' is not a known language code: write it as in de, deu, zh-Hans or"),
    ({"languages.target": "''"}, "languages.target = '': '' is not a known language code"),
    ({"languages.target": "../de"}, "languages.target = '../de': '../de' is not a known language code"),
    ({"languages.target": "d e"}, "languages.target = 'd e': 'd e' is not a known language code"),
    ({"languages.target": "49"}, f"languages.target = 49: input {TEXT_WANTED}"),
    ({"languages.target": "null"}, f"languages.target = None: input {TEXT_WANTED}"),
    ({"languages.target": "[de]"}, f"languages.target = ['de']: input {TEXT_WANTED}"),
    # download
    ({"download.corpora": "[]"}, "download.corpora = []: list should have at least 1 item"),
    ({"download.corpora": "multi30k"}, "did you mean [multi30k]?"),
    ({"download.corpora": "[multi30k, multi30k]"}, "'multi30k' is there twice"),
    ({"download.corpora": "[1]"}, f"download.corpora.0 = 1: input {TEXT_WANTED}"),
    ({"download.retries": "-1"}, "download.retries = -1: input should be greater than or equal to 0"),
    ({"download.retries": "101"}, "download.retries = 101: input should be less than or equal to 100"),
    ({"download.retries": "'5'"}, "download.retries = '5': input should be a valid integer; did you mean 5, without"),
    ({"download.timeout_seconds": "0"}, "download.timeout_seconds = 0: input should be greater than 0"),
    ({"download.timeout_seconds": "1e12"}, "download.timeout_seconds = 1000000000000.0: input should be less than"),
    ({"download.timeout_seconds": ".inf"}, "download.timeout_seconds = inf: input should be a finite number"),
    ({"download.timeout_seconds": ".nan"}, "download.timeout_seconds = nan: input should be a finite number"),
    ({"download.timeout_seconds": "1e400"}, "download.timeout_seconds = inf: input should be a finite number"),
    ({"download.timeout_seconds": "sixty"}, f"download.timeout_seconds = 'sixty': input {NUMBER}"),
    # preparation
    ({"preparation.filters.length": "0"}, "preparation.filters.length = 0: input should be greater than or equal to 1"),
    ({"preparation.filters.length": "1.0"}, "preparation.filters.length = 1.0: input should be a valid integer; did you mean 1?"),
    ({"preparation.filters.length": "1e3"}, "did you mean 1000?"),
    ({"preparation.filters.length_ratio": "0.9"}, "preparation.filters.length_ratio = 0.9: input should be greater than or"),
    ({"preparation.filters.held_out": "0"}, "preparation.filters.held_out = 0: input should be greater"),
    ({"preparation.filters.held_out": "1.1"}, "preparation.filters.held_out = 1.1: input should be less"),
    ({"preparation.valid_share": "0.5"}, "preparation.valid_share = 0.5: input should be less than 0.5"),
    ({"preparation.valid_share": "3 %"}, f"preparation.valid_share = '3 %': input {NUMBER}"),
    ({"preparation.test_share": "0"}, "preparation.test_share = 0: input should be greater than 0"),
    ({"preparation.batch_pairs": "0"}, "preparation.batch_pairs = 0: input should be greater than or equal to 1"),
    ({"preparation.batch_pairs": "99999999999"}, "preparation.batch_pairs = 99999999999: input should be less than"),
    ({"preparation.mix": "1.5"}, "preparation.mix = 1.5: input should be less than or equal to 1"),
    ({"preparation.mix": "20 %"}, f"preparation.mix = '20 %': input {NUMBER}"),
    ({"preparation.mix": "0.2"}, "preparation.mix = 0.2: it is about a parent, and training.start_from names none"),
    ({"preparation.sampling_temperature": "0.5"}, "preparation.sampling_temperature = 0.5: input should be greater"),
    ({"preparation.sampling_temperature": "1000"}, "preparation.sampling_temperature = 1000: input should be less"),
    # tokenization
    ({"tokenization.model": "''"}, "tokenization.model = '': name a SentencePiece model, or null"),
    ({"tokenization.model": "7"}, f"tokenization.model = 7: input {TEXT_WANTED}"),
    ({"tokenization.new_pieces": "-1"}, "tokenization.new_pieces = -1: input should be greater than or equal to 0"),
    ({"tokenization.new_pieces": "500"}, "tokenization.new_pieces = 500: there is no vocabulary to add them to; give"),
    (
        {"tokenization.model": "my/spm.model", "training.start_from": "models/averaged"},
        "tokenization.model = 'my/spm.model': training.start_from brings the vocabulary of its parent; set one of the",
    ),
    ({"tokenization.vocabulary_size": "260"}, "tokenization.vocabulary_size = 260: input should be greater than or"),
    ({"tokenization.vocabulary_size": "1_000_000_000"}, "tokenization.vocabulary_size = 1000000000: input should be"),
    ({"tokenization.vocabulary_size": "6k"}, f"tokenization.vocabulary_size = '6k': input {INTEGER}"),
    ({"tokenization.character_coverage": "0.9"}, "tokenization.character_coverage = 0.9: input should be greater"),
    ({"tokenization.character_coverage": "99.99"}, "tokenization.character_coverage = 99.99: input should be less"),
    ({"tokenization.training_pairs": "null"}, f"tokenization.training_pairs = None: input {INTEGER}"),
    # model
    ({"model.d_model": "0"}, "model.d_model = 0: input should be greater than or equal to 2"),
    ({"model.d_model": "190"}, "model: d_model must be a multiple of 2 x heads = 6, not 190"),
    ({"model.d_model": "10000000"}, "model.d_model = 10000000: input should be less than or equal to 65536"),
    ({"model.heads": "5"}, "model: d_model must be a multiple of 2 x heads = 10, not 192"),
    ({"model.heads": "0"}, "model.heads = 0: input should be greater than or equal to 1"),
    ({"model.d_ff": "1000000000000"}, "model.d_ff = 1000000000000: input should be less than or equal to"),
    ({"model.key_size": "0"}, "model.key_size = 0: input should be greater than or equal to 1"),
    ({"model.key_size": "none"}, "model.key_size = 'none': input should be a valid integer; did you mean null?"),
    ({"model.encoder_layers": "0"}, "model.encoder_layers = 0: input should be greater than or equal to 1"),
    ({"model.encoder_layers": "10000"}, "model.encoder_layers = 10000: input should be less than or equal to 1000"),
    ({"model.encoder_layers": "1000", "model.d_model": "60000", "model.d_ff": "1000000"}, "more than any machine"),
    ({"model.dropout": "1"}, "model.dropout = 1: input should be less than 1"),
    ({"model.dropout": "-0.1"}, "model.dropout = -0.1: input should be greater than or equal to 0"),
    ({"model.positions": "sinus"}, "model.positions = 'sinus': input should be 'sinusoidal' or 'learned'"),
    ({"model.positions": "sinusodial"}, "did you mean sinusoidal?"),
    ({"model.norm": "mid"}, "model.norm = 'mid': input should be 'post' or 'pre'"),
    ({"model.norm": "Post"}, "did you mean post?"),
    ({"model.max_positions": "7"}, "model.max_positions = 7: input should be greater than or equal to 8"),
    ({"model.max_positions": "1000000000"}, "model.max_positions = 1000000000: input should be less than or equal"),
    # training
    ({"training.seed": "-1"}, "training.seed = -1: input should be greater than or equal to 0"),
    ({"training.seed": "1" + "0" * 23}, "training.seed = 100000000000000000000000: input should be less than"),
    ({"training.seed": "1e5"}, "training.seed = 100000.0: input should be a valid integer; did you mean 100000?"),
    ({"training.seed": "0x" + "f" * 5000}, "training.seed = a number of 20000 bits: "),
    ({"training.seed": "7" * 5000}, "not YAML"),
    ({"training.seed": "true"}, f"training.seed = True: input {INTEGER}"),
    ({"training.updates": "0"}, "training.updates = 0: input should be greater than or equal to 1"),
    ({"training.updates": "100000000"}, "training.updates = 100000000: input should be less than 100000000"),
    ({"training.updates": "many"}, f"training.updates = 'many': input {INTEGER}"),
    ({"training.updates": "\"8000\""}, "did you mean 8000, without quotes?"),
    ({"training.updates": "8,000"}, f"training.updates = '8,000': input {INTEGER}"),
    ({"training.updates": "2026-11-26"}, f"training.updates = datetime.date(2026, 11, 26): input {INTEGER}"),
    ({"training.updates": "!!binary aGk="}, f"training.updates = b'hi': input {INTEGER}"),
    ({"training.start_from": "''"}, "training.start_from = '': name a model folder, an MLflow version or a git rev"),
    ({"training.start_from": "3"}, f"training.start_from = 3: input {TEXT_WANTED}"),
    ({"training.start_optimizer": "keep"}, "training.start_optimizer = 'keep': input should be 'fresh' or 'taken'"),
    ({"training.start_optimizer": "taken"}, "training.start_optimizer = taken: it is about a parent, and training.st"),
    ({"training.forgetting_limit": "0"}, "training.forgetting_limit = 0: input should be greater than 0"),
    ({"training.forgetting_limit": "0.1"}, "training.forgetting_limit = 0.1: it is about a parent, and training.st"),
    ({"training.batch_target_tokens": "0"}, "training.batch_target_tokens = 0: input should be greater than or equal"),
    ({"training.batch_target_tokens": "1"}, "training: length_groups must not exceed batch_target_tokens = 1"),
    ({"training.length_groups": "1025"}, "training: length_groups must not exceed batch_target_tokens = 1024"),
    ({"training.micro_batch_tokens": "0"}, "training.micro_batch_tokens = 0: input should be greater than or equal"),
    (
        {"training.micro_batch_tokens": "255"},
        "training.micro_batch_tokens = 255: a sentence may have model.max_positions = 256 tokens; raise it, or lower",
    ),
    ({"model.max_positions": "5000"}, "training.micro_batch_tokens = 4096: a sentence may have model.max_positions ="),
    ({"training.label_smoothing": "1"}, "training.label_smoothing = 1: input should be less than 1"),
    ({"training.adam_beta1": "1"}, "training.adam_beta1 = 1: input should be less than 1"),
    ({"training.adam_beta2": "98"}, "training.adam_beta2 = 98: input should be less than 1"),
    ({"training.adam_beta2": "0.99999999999999999"}, "training.adam_beta2 = 1.0: input should be less than 1"),
    ({"training.adam_epsilon": "0"}, "training.adam_epsilon = 0: input should be greater than or equal to 0.0000"),
    ({"training.adam_epsilon": "1e-400"}, "training.adam_epsilon = 0.0: input should be greater than or equal to"),
    ({"training.adam_epsilon": "1e-46"}, "training.adam_epsilon = 1e-46: input should be greater than or equal to"),
    ({"training.schedule": "cosine"}, "training.schedule = 'cosine': input should be 'inverse_sqrt' or 'linear'"),
    ({"training.schedule": "inverse-sqrt"}, "did you mean inverse_sqrt?"),
    ({"training.warmup_updates": "0"}, "training.warmup_updates = 0: input should be greater than or equal to 1"),
    ({"training.learning_rate_scale": "0"}, "training.learning_rate_scale = 0: input should be greater than 0"),
    ({"training.learning_rate_scale": "1e308"}, "training.learning_rate_scale = 1e+308: input should be less than or equal"),
    ({"training.learning_rate_scale": "-.inf"}, "training.learning_rate_scale = -inf: input should be a finite"),
    ({"training.precision": "fp8"}, "training.precision = 'fp8': input should be 'auto', 'bf16' or 'fp32'"),
    ({"training.precision": "FP32"}, "did you mean fp32?"),
    ({"training.compile": "yes"}, "training.compile = 'yes': input should be a valid boolean; did you mean true?"),
    ({"training.compile": "1"}, "training.compile = 1: input should be a valid boolean"),
    ({"training.log_every": "0"}, "training.log_every = 0: input should be greater than or equal to 1"),
    ({"training.validate_every": "0"}, "training.validate_every = 0: input should be greater than or equal to 1"),
    ({"training.validation_bleu_sentences": "-1"}, "training.validation_bleu_sentences = -1: input should be greater"),
    ({"training.validation_bleu_sentences": "null"}, f"training.validation_bleu_sentences = None: input {INTEGER}"),
    ({"training.early_stopping_patience": "0"}, "training.early_stopping_patience = 0: input should be greater than"),
    (
        {"averaging.at_least": "3", "training.early_stopping_patience": "1", "training.validate_every": "100"},
        "averaging.at_least = 3: a training that stops early at update 200, checkpoint_every_updates = 100 and keep_last",
    ),
    (
        {"averaging.at_least": "5", "training.early_stopping_patience": "8", "training.validate_every": "130"},
        "averaging.at_least = 5: a training that stops early at update 1170, checkpoint_every_updates",
    ),
    ({"training.checkpoint_every_updates": "0"}, "training.checkpoint_every_updates = 0: input should be greater"),
    ({"training.checkpoint_every_updates": "null"}, "training.checkpoint_every_updates = None: without it and"),
    ({"averaging.at_least": "5", "training.checkpoint_every_updates": "99"}, "averaging.at_least = 5: training.updates = 4700, check"),
    ({"averaging.at_least": "2", "training.checkpoint_every_updates": "1000000"}, "averaging.at_least = 2: training.updates = 4700, checkpoint_"),
    ({"training.checkpoint_every_minutes": "0"}, "training.checkpoint_every_minutes = 0: input should be greater"),
    ({"training.checkpoint_every_minutes": "1e9"}, "training.checkpoint_every_minutes = 1000000000.0: input should"),
    ({"training.checkpoint_every_minutes": "10 min"}, f"training.checkpoint_every_minutes = '10 min': input {NUMBER}"),
    ({"training.keep_last": "0"}, "training.keep_last = 0: input should be greater than or equal to 1"),
    ({"training.keep_last": "4"}, "averaging.count = 5: training.keep_last = 4 keeps too few checkpoints; lower count"),
    ({"averaging.at_least": "5", "training.updates": "4750"}, "training.updates = 4750, checkpoint_every_updates = 100 and keep_last = 5 leave 4"),
    ({"averaging.at_least": "5", "training.updates": "400"}, "averaging.at_least = 5: training.updates = 400, checkpoint_every_updates = 100 and"),
    ({"training.rewarm_after": "-1"}, "training.rewarm_after = -1: input should be greater than or equal to 0"),
    ({"training.rewarm_after": "4700"}, "training.rewarm_after = 4700: it must come before the last of training.updates = 4700"),
    ({"training.rewarm_after": "true"}, f"training.rewarm_after = True: input {INTEGER}"),
    # export
    ({"export.formats": "ctranslate2"}, "did you mean [ctranslate2]?"),
    ({"export.formats": "[ctranslate]"}, "export.formats.0 = 'ctranslate': input should be 'ctranslate2', 'huggingface' or 'onnx'; did you mean ctranslate2?"),
    ({"export.formats": "[huggingface, huggingface]"}, "'huggingface' is there twice"),
    ({"export.quantization": "int4"}, "export.quantization = 'int4': input should be 'float32', 'bfloat16' or 'int8'"),
    ({"export.quantization": "null"}, "export.quantization = None: input should be"),
    ({"model.key_size": "16", "export.formats": "[onnx, huggingface]"}, "model.key_size = 16: huggingface has no keys of another size"),
    # averaging
    ({"averaging.rule": "all"}, "averaging.rule = 'all': input should be 'last', 'best' or 'minutes'"),
    ({"averaging.rule": "lasst"}, "did you mean last?"),
    ({"averaging.rule": "minutes"}, "averaging.rule = 'minutes': it needs training.checkpoint_every_minutes to be set"),
    (
        {"averaging.rule": "minutes", "training.checkpoint_every_minutes": "10"},
        "averaging.rule = 'minutes': training.checkpoint_every_updates = 100 writes checkpoints that take the places",
    ),
    (
        {
            "averaging.rule": "minutes",
            "training.checkpoint_every_minutes": "10",
            "training.checkpoint_every_updates": "null",
        },
        "training.keep_last = 5: averaging.count = 5 checkpoints 10 minutes apart, written every 10 minutes and at",
    ),
    ({"averaging.at_least": "5", "averaging.rule": "best"}, "averaging.at_least = 5: training.updates = 4700, validate_every = 500, checkpoint_every"),
    (
        {"averaging.rule": "best", "averaging.at_least": "2", "training.validate_every": "130"},
        "averaging.at_least = 2: training.updates = 4700, validate_every = 130, checkpoint_every_updates = 100 and keep_last = 5 leave 1",
    ),
    (
        {"averaging.rule": "best", "averaging.at_least": "2", "averaging.min_updates_apart": "300"},
        "averaging.at_least = 2: training.updates = 4700, validate_every = 500, checkpoint_every_updates",
    ),
    ({"averaging.count": "0"}, "averaging.count = 0: input should be greater than or equal to 1"),
    ({"averaging.count": "6"}, "averaging.count = 6: training.keep_last = 5 keeps too few checkpoints; lower count"),
    ({"averaging.count": "50"}, "averaging.count = 50: training.keep_last = 5 keeps too few"),
    ({"averaging.at_least": "0"}, "averaging.at_least = 0: input should be greater than or equal to 1"),
    ({"averaging.at_least": "6"}, "averaging.at_least = 6: averaging.count = 5 averages no more than that"),
    ({"averaging.at_least": "50", "averaging.count": "50", "training.keep_last": "50"}, "averaging.at_least = 50: training.updates = 4700, checkp"),
    ({"averaging.minutes_apart": "0"}, "averaging.minutes_apart = 0: input should be greater than 0"),
    ({"averaging.min_updates_apart": "0"}, "averaging.min_updates_apart = 0: input should be greater than or equal"),
    ({"averaging.at_least": "4", "averaging.min_updates_apart": "101"}, "averaging.at_least = 4: training.updates = 4700"),
    ({"averaging.at_least": "2", "averaging.min_updates_apart": "1000"}, "averaging.at_least = 2: training.updates = 4700"),
    # decoding
    ({"decoding.beam": "0"}, "decoding.beam = 0: input should be greater than or equal to 1"),
    ({"decoding.beam": "65"}, "decoding.beam = 65: input should be less than or equal to 64"),
    ({"decoding.beam": "4.0"}, "decoding.beam = 4.0: input should be a valid integer; did you mean 4?"),
    ({"decoding.alpha": "-0.6"}, "decoding.alpha = -0.6: input should be greater than or equal to 0"),
    ({"decoding.alpha": "1e6"}, "decoding.alpha = 1000000.0: more than 10 is no search"),
    ({"decoding.max_extra_length": "-1"}, "decoding.max_extra_length = -1: input should be greater than or equal to"),
    ({"decoding.precision": "fp8"}, "decoding.precision = 'fp8': input should be 'auto', 'bf16' or 'fp32'"),
    ({"decoding.device": "gpu"}, "decoding.device = 'gpu': input should be 'auto', 'cuda', 'mps' or 'cpu'"),
    ({"decoding.batch_tokens": "0"}, "decoding.batch_tokens = 0: input should be greater than or equal to 1"),
    # evaluation
    ({"evaluation.test_sets": "[]"}, "evaluation.test_sets = []: list should have at least 1 item"),
    ({"evaluation.test_sets": "interface-strings"}, "did you mean [interface-strings]?"),
    ({"evaluation.test_sets": "[a, b, a]"}, "evaluation.test_sets = ['a', 'b', 'a']: 'a' is there twice"),
    ({"evaluation.test_sets": "[interface-string]"}, "has no test set 'interface-string'; there are interface-strings"),
    ({"evaluation.test_sets": "[interface_strings]"}, "did you mean interface-strings?"),
    ({"evaluation.test_sets": "[newstest2014]"}, "evaluation.test_sets: interface-strings has no test set 'newstest"),
    ({"evaluation.bootstrap_samples": "99"}, "evaluation.bootstrap_samples = 99: input should be greater than or"),
    ({"evaluation.bootstrap_samples": "1000000000"}, "evaluation.bootstrap_samples = 1000000000: input should be less"),
    ({"evaluation.length_buckets": "[]"}, "evaluation.length_buckets = []: list should have at least 1 item"),
    ({"evaluation.length_buckets": "[8, 4]"}, "evaluation.length_buckets = [8, 4]: the bounds must rise; did you mean"),
    ({"evaluation.length_buckets": "[4, 4]"}, "the bounds must rise; did you mean [4]?"),
    ({"evaluation.length_buckets": "[0, 4]"}, "evaluation.length_buckets.0 = 0: input should be greater than or"),
    ({"evaluation.length_buckets": "[4, 8.5]"}, f"evaluation.length_buckets.1 = 8.5: input {INTEGER}"),
    ({"evaluation.length_buckets": "8"}, "evaluation.length_buckets = 8: input should be a valid list; did you mean"),
    ({"evaluation.attention_sentences": "-1"}, "evaluation.attention_sentences = -1: input should be greater than"),
    ({"evaluation.attention_sentences": "100000"}, "evaluation.attention_sentences = 100000: input should be less"),
    # compute
    ({"compute.device": "gpu"}, "compute.device = 'gpu': input should be 'auto', 'cuda', 'mps' or 'cpu'"),
    ({"compute.device": "CPU"}, "did you mean cpu?"),
    ({"compute.device": "cuda:0"}, "compute.device = 'cuda:0': input should be 'auto', 'cuda', 'mps' or 'cpu'; did"),
    ({"compute.devices": "0"}, "compute.devices = 0: input should be greater than or equal to 1"),
    ({"compute.devices": "100000"}, "compute.devices = 100000: input should be less than or equal to 1024"),
    ({"compute.nodes": "0"}, "compute.nodes = 0: input should be greater than or equal to 1"),
    ({"compute.threads": "0"}, "compute.threads = 0: input should be greater than or equal to 1"),
    ({"compute.threads": "1000000"}, "compute.threads = 1000000: input should be less than or equal to 1024"),
    ({"compute.executor": "dask"}, "compute: executor: dask needs the scheduler's address, for instance tcp://"),
    ({"compute.executor": "ray"}, "compute.executor = 'ray': input should be 'local' or 'dask'"),
    ({"compute.scheduler": "the big one"}, "compute.scheduler = 'the big one': an address is expected, for instance"),
    ({"compute.scheduler": "8786"}, f"compute.scheduler = 8786: input {TEXT_WANTED}"),
    # promotion
    ({"promotion.require_signatures": "yes"}, "promotion.require_signatures = 'yes': input should be a valid boolean; did you mean true"),
    ({"promotion.require_signatures": "1"}, "promotion.require_signatures = 1: input should be a valid boolean"),
    # corpora and languages of the registry
    ({"download.corpora": "[interface]"}, "has no corpus 'interface'; it has interface-strings, multi30k"),
    ({"download.corpora": "[multi-30k]"}, "did you mean multi30k?"),
    ({"download.corpora": "[multi30k]", "languages.target": "es"}, "languages.target = 'es': corpus multi30k has en"),
    ({"download.corpora": "[multi30k]"}, "evaluation.test_sets: multi30k has no test set 'interface-strings'; there"),
]  # fmt: skip


def with_values(text: str, values: dict[str, str]) -> str:
    """A params file with values replaced as a person would type them."""
    lines, above = text.splitlines(), list[str]()
    left = dict(values)
    for number, line in enumerate(lines):
        depth, key = (len(line) - len(line.lstrip())) // 2, line.strip().partition(":")[0]
        above[depth:] = [key]
        if (path := ".".join(above)) in left:
            lines[number] = f"{'  ' * depth}{key}: {left.pop(path)}"
    assert not left
    return "\n".join(lines)


def told(text: str) -> str:
    """What is said of a params file that stands beside this checkout's registry."""
    with pytest.raises(ParamsError) as caught:
        check_choice(parse_params(text, "params.yaml"), CHECKOUT / REGISTRY)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    return str(caught.value)


def test_there_are_150() -> None:
    assert len({tuple(values.items()) for values, _ in WRONG}) == len(WRONG) >= 150


@pytest.mark.parametrize(("values", "words"), WRONG, ids=[str(values)[1:80] for values, _ in WRONG])
def test_a_wrong_value_is_one_line(values: dict[str, str], words: str) -> None:
    line = told(with_values(TEXT, values))
    assert words in line
    assert "not YAML" in line or re.match(r"(params\.yaml: )?(\w+\.\w+|model|training|compute)( =|:|\.\d)", line)


def keys_of(section: Any, above: str = "") -> Iterator[str]:
    for key, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from keys_of(field.annotation, f"{above}{key}.")
        else:
            yield f"{above}{key}"


OPTIONAL = ("model.key_size", "decoding.precision", "decoding.device")  # those that came later, with a default
KEYS = list(keys_of(Params))


@pytest.mark.parametrize("key", KEYS)
def test_every_key_refuses_what_is_no_value_at_all(key: str) -> None:
    """A section, lists in lists, a list that contains itself, a missing key, a misspelt one."""
    for value in ("{a: {b: 1}}", "[[[1]]]", "&x [*x]", "!!set {a}"):
        assert f"{key}" in told(with_values(TEXT, {key: value})), value
    section, _, name = key.rpartition(".")
    lines = [line for line in TEXT.splitlines() if not line.strip().startswith(f"{name}:")]
    assert len(lines) < len(TEXT.splitlines())
    refused = (f"params.yaml: {section}.", f"params.yaml: {section} = None: a section is expected")  # its only key
    assert told("\n".join(lines)).startswith(refused) if key not in OPTIONAL else True
    misspelt = with_values(TEXT, {key: "1"}).replace(f"  {name}: 1", f"  {name}x: 1")
    line = told(misspelt)
    assert line.startswith(f"params.yaml: {section}.{name}x is not a key; allowed here: ")
    assert line.endswith(f"; did you mean {section}.{name}?")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("decoding:", "decodin:", "decodin is not a key; allowed here: languages, download"),
        ("decoding:", "decodin:", "; did you mean decoding?"),
        ("  beam:", "  learning_rate_scale:", "decoding.learning_rate_scale is not a key"),
        ("  beam:", "  learning_rate_scale:", "; did you mean training.learning_rate_scale?"),
        ("  beam: 4", "  1: 4", "decoding"),
        ("  beam: 4", "  [a]: 4", ""),
        ("  beam: 4", "  beam: 4\n  beam: 5", 'not YAML: found duplicate key "beam"'),
        ("  beam: 4", "\tbeam: 4", "not YAML"),
        ("  beam: 4", "  beam: *nothing", "not YAML"),
        ("  beam: 4", "  beam: !!python/object:os.system {}", "not YAML"),
        ("  beam: 4", "  beam: " + "[" * 5000, "not YAML"),
        ("languages:\n  source: en\n  target: de", "languages: 7\n#", "languages = 7: a section is expected, keys with their values below it"),
    ],
)  # fmt: skip
def test_a_wrong_key_or_form_is_one_line(old: str, new: str, words: str) -> None:
    assert words in told(TEXT.replace(old, new, 1))


def test_a_bomb_of_aliases_is_one_short_line() -> None:
    bomb = ["bomb0: &b0 [1, 1]"] + [f"bomb{n}: &b{n} [{', '.join([f'*b{n - 1}'] * 9)}]" for n in range(1, 12)]
    told("\n".join([*bomb, TEXT]))


RIGHT: list[dict[str, str]] = [
    {"model.key_size": "16", "export.formats": "[onnx]"},
    {"training.updates": "500"},
    {"averaging.count": "1", "training.checkpoint_every_updates": "1000000"},
    {"averaging.rule": "best", "averaging.count": "2"},
    {"training.early_stopping_patience": "2"},
    {"training.early_stopping_patience": "1", "training.validate_every": "10"},
    {"training.updates": "4750"},
    {"training.updates": "5"},
    {"averaging.count": "50", "training.keep_last": "50"},
    {"training.updates": "6000", "training.rewarm_after": "4700"},
    {"training.micro_batch_tokens": "null"},
    {"training.micro_batch_tokens": "256"},
    {"training.seed": str(2**63 - 1)},
    {
        "averaging.rule": "minutes", "training.checkpoint_every_minutes": "10",
        "training.checkpoint_every_updates": "null", "training.keep_last": "6",
    },
    {"training.checkpoint_every_updates": "null", "training.checkpoint_every_minutes": "0.5"},
    {"languages.target": "zh-Hans"},
    {"compute.executor": "dask", "compute.scheduler": "tcp://[::1]:8786"},
    {"compute.executor": "dask", "compute.scheduler": "scheduler.example.org:8786"},
    {"evaluation.length_buckets": "[1]"},
    {"tokenization.model": "my/spm.model", "tokenization.new_pieces": "500"},
    {
        "training.start_from": "transformer-en-de@champion", "training.start_optimizer": "taken",
        "training.forgetting_limit": "0.1", "preparation.mix": "1", "tokenization.new_pieces": "500",
    },
]  # fmt: skip


@pytest.mark.parametrize("values", RIGHT, ids=str)
def test_what_works_is_not_refused(values: dict[str, str]) -> None:
    check_choice(parse_params(with_values(TEXT, values), "p"), CHECKOUT / REGISTRY)


@pytest.mark.parametrize("end", range(1, 60))
@pytest.mark.parametrize("keep", [1, 2, 5])
def test_the_kept_checkpoints_are_those_that_a_training_keeps(end: int, keep: int) -> None:
    """By walking through every update, as the training loop does."""
    for every in (1, 2, 7, 10, 59, 100):
        written = [update for update in range(1, end + 1) if update % every == 0 or update == end]
        assert kept_updates(end, every, keep) == written[-keep:]
