"""Raw parts as the download stage leaves them, and params of preparation to match."""

import random
from pathlib import Path
from typing import Any

from transformer.data.parts import Part
from transformer.params import PreparationParams

Pairs = list[tuple[str, str]]
PARAMS = PreparationParams(
    max_words=20, max_length_ratio=1.5, near_duplicate_jaccard=0.8, valid_share=0.1, test_share=0.1, batch_pairs=7,
)  # fmt: skip


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
