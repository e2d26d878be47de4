"""docs/paper.md: what the paper says, what the presets hold, and where and why they differ."""

from pathlib import Path
from typing import Any

import torch

from transformer.data.download.corpora import Corpus, load_corpora
from transformer.evaluation.published import PUBLISHED, TEST_SETS
from transformer.model.transformer import Transformer
from transformer.paper.values import (
    DEVIATIONS,
    FIXED,
    PARAMETERS,
    PRESETS,
    VALID_PARTS,
    VALUES,
    WITHOUT_KEY,
    Four,
    Plain,
    Value,
)
from transformer.params import Params, load_params

DOCUMENT = Path("docs/paper.md")
COLUMNS = ("en-de base", "en-de big", "en-fr base", "en-fr big")
HEAD = """# The paper beside the presets

Every value of sections 3, 5 and 6 of "Attention Is All You Need" (Vaswani et al., 2017, arXiv:1706.03762), and what
the presets `wmt14-en-de-base`, `-big`, `wmt14-en-fr-base` and `-big` hold. `python -m transformer.paper` writes this
page from `transformer/paper/values.py` and `presets/`; a test fails where they differ.

"""
TABLE_3 = """Table 3 counts models with one vocabulary, that of en-de. Its base model has 65 million parameters only
with about 41 000 pieces, and so have its rows A to E (`tests/transformer/model/test_model.py`); big agrees with
37 000 within 1 %.
"""
EVERY_BLEU = """One set of translations has several BLEU scores, one to two points apart. `reports/metrics.json` holds
all of ours, as `tests.<test set>.bleus`, each with label and signature, and `python -m flows.summary` shows them next
to the published ones of the same kind. `13a`, `lc` and `intl` are sacreBLEU's; `tokenised` is that of multi-bleu.perl
after Moses' tokeniser (sacremoses); for `tokenised_split` the hyphens of compounds are split off as well, as in
tensor2tensor's `get_ende_bleu.sh`.
"""


class Presets:
    """The four presets of a checkout, and its data/corpora.yaml.

    Raises:
        ParamsError: a file is missing or malformed.
    """

    def __init__(self, checkout: Path) -> None:
        self.params = [load_params(checkout / "presets" / f"{name}.yaml") for name in PRESETS]
        self.registry = load_corpora(checkout / "data" / "corpora.yaml")

    def held(self, key: str) -> Four:
        """The values of `key`, spelled as in `Value`; lists as their members between commas."""
        one, two, three, four = (self._value(params, key) for params in self.params)
        return one, two, three, four

    def parameters(self) -> list[float]:
        """Millions of parameters of each preset's network, with as many pieces as its vocabulary has."""
        with torch.device("meta"):
            networks = [Transformer(one.model, one.tokenization.vocabulary_size) for one in self.params]
        return [sum(weight.numel() for weight in network.parameters()) / 1e6 for network in networks]

    def _value(self, params: Params, key: str) -> Plain:
        if key == VALID_PARTS:
            corpora = [self.registry[name] for name in params.download.corpora]
            parts = [part for corpus in corpora if isinstance(corpus, Corpus) for part in corpus.parts]
            return ", ".join(part.name for part in parts if part.split == "valid")
        if " / " in key:
            above, below = (_leaf(params, name) for name in key.split(" / "))
            return float(above / below)
        value: Plain | list[str] | None = _leaf(params, key)
        if value is None:
            return "none"
        return ", ".join(value) if isinstance(value, list) else value


def _leaf(params: Params, key: str) -> Any:
    section, name = key.split(".")
    return getattr(getattr(params, section), name)


def document(checkout: Path) -> str:
    """The page, for the presets and data/corpora.yaml of `checkout`.

    Raises:
        ParamsError: a preset or data/corpora.yaml is missing or malformed.
    """
    presets = Presets(checkout)
    sections = {
        "Values": _values(presets),
        "Parameters": _parameters(presets),
        "Values without a key": _table(["section", "the paper", "here"], [list(row) for row in WITHOUT_KEY]),
        "What the code fixes": _table(["section", "the paper", "here", "shown by"], _fixed()),
        "Deviations": "".join(f"- **{name}**: {why}\n" for name, why in DEVIATIONS.items()),
        "Published BLEU": _published(),
    }
    return HEAD + "\n".join(f"## {title}\n\n{text}" for title, text in sections.items())


def _values(presets: Presets) -> str:
    header = ["section", "value", "the paper", "the presets", "key", "deviation"]
    return _table(header, [_row(value, presets.held(value.key)) for value in VALUES])


def _row(value: Value, held: Four) -> list[str]:
    return [value.section, value.what, _in_words(value.paper), _in_words(held), f"`{value.key}`", value.deviation]


def _in_words(values: Four) -> str:
    """One value if all are the same, one for each size or each language pair if that is enough, else all four."""
    one, two, three, four = map(_plain, values)
    if one == two == three == four:
        return one
    if (one, two) == (three, four):
        return f"base {one}, big {two}"
    if (one, three) == (two, four):
        return f"en-de {one}; en-fr {three}"
    return ", ".join(f"{name} {value}" for name, value in zip(COLUMNS, (one, two, three, four), strict=True))


def _plain(value: Plain) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _parameters(presets: Presets) -> str:
    counts = presets.parameters()
    rows = [
        [f"`{name}`", f"{paper} M", f"{count:.1f} M", str(params.tokenization.vocabulary_size)]
        for name, paper, count, params in zip(PRESETS, PARAMETERS, counts, presets.params, strict=True)
    ]
    return f"{_table(['preset', 'Table 3', 'here', 'pieces'], rows)}\n{TABLE_3}"


def _fixed() -> list[list[str]]:
    return [[section, what, f"`{module}`", f"`{test}`"] for section, what, module, test in FIXED]


def _published() -> str:
    sets = "".join(f"- `{name}`: {what}\n" for name, what in TEST_SETS.items())
    rows = [
        [one.languages, f"`{one.test_set}`", one.model, f"{one.bleu:g}", f"`{one.score}`", one.source]
        for one in PUBLISHED
    ]
    table = _table(["pair", "test set", "model", "BLEU", "as", "source"], rows)
    return f"{EVERY_BLEU}\n{sets}\n{table}"


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
