"""Raw parts as the download stage leaves them, and params of preparation to match."""

import random
from pathlib import Path
from typing import Any

from transformer.data.parts import Part
from transformer.params import FilterParams, PreparationParams

Pairs = list[tuple[str, str]]
FILTERS = FilterParams(
    empty=True,
    identical=True,
    length=20,
    length_in_characters=40,
    length_ratio=1.5,
    placeholder_mismatch=True,
    number_mismatch="any",
    wrong_script=True,
    duplicates="source",
    held_out=0.8,
    held_out_target=0.8,
)
PARAMS = PreparationParams(
    filters=FILTERS,
    valid_share=0.1,
    test_share=0.1,
    mix=0.0,
    sampling_temperature=1.0,
    batch_pairs=7,
    max_line_bytes=1 << 20,
)


def with_filters(**changed: Any) -> PreparationParams:
    """PARAMS with other settings of filters, checked."""
    filters = FilterParams.model_validate({**FILTERS.model_dump(), **changed})
    return PARAMS.model_copy(update={"filters": filters})


def part(name: str, split: str | None, **fields: Any) -> Part:
    files = {"format": "lines", "source": f"{name}.en", "target": f"{name}.de"}
    return Part(corpus="c", name=name, split=split, source_language="en", target_language="de", **{**files, **fields})


def write_lines(raw: Path, name: str, pairs: Pairs) -> None:
    raw.mkdir(exist_ok=True)
    for side, column in zip(("en", "de"), zip(*pairs, strict=True), strict=True):
        (raw / f"{name}.{side}").write_text("".join(f"{line}\n" for line in column), encoding="utf-8", newline="")


def random_pairs(count: int, seed: int) -> Pairs:
    """Pairs of unlike sentences that no filter removes."""
    random_ = random.Random(seed)

    def sentence() -> str:
        return " ".join("".join(random_.choices("abcdefghijklmnoprstuvw", k=5)) for _ in range(4))

    return [(sentence(), sentence()) for _ in range(count)]
