"""The report of `prepare`: what was read, what was removed and why, what was kept."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import pyarrow
import pyarrow.compute

from transformer.data.parts import Part
from transformer.data.prepare.decontamination import VERDICTS
from transformer.data.prepare.filters import FILTER_NAMES
from transformer.data.prepare.splits import SPLITS

logger = logging.getLogger(__name__)
REASONS = (*FILTER_NAMES, "duplicate_pair", "duplicate_source", *VERDICTS)
MANY = 1 / 3  # of a part's pairs removed by one filter: worth a warning
_SWITCHES = {
    "duplicate_pair": "duplicates",
    "duplicate_source": "duplicates",
    "held_out_exact": "held_out",
    "held_out_near": "held_out",
    "held_out_target_exact": "held_out_target",
    "held_out_target_near": "held_out_target",
}


def switch_of(reason: str) -> str:
    """The key in params.yaml that switches the filter off."""
    return f"preparation.filters.{_SWITCHES.get(reason, reason)}"


class Tally:
    """Counts that add up: in each part, pairs read = pairs removed + pairs kept."""

    def __init__(self, parts: list[Part]) -> None:
        self._parts = [part.name for part in parts]
        self._sifted = {part.name for part in parts if part.split in (None, "train")}
        self._read: Counter[str] = Counter()
        self._left_out: dict[str, Counter[str]] = {}  # part -> reason -> units that are no pairs
        self._unwritable: Counter[str] = Counter()
        self._removed: defaultdict[str, Counter[str]] = defaultdict(Counter)  # part -> reason -> pairs
        self._kept: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}  # split -> origin -> pairs
        self._words: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}  # split -> side -> words

    def read(self, part: str, pairs: int) -> None:
        """Count pairs of a part as read."""
        self._read[part] += pairs

    def left_out(self, part: str, units: Counter[str]) -> None:
        """Count what a reader of a part passed over: untranslated units and the like, which are no pairs."""
        self._left_out[part] = units
        if units:
            counts = ", ".join(f"{count} {reason}" for reason, count in sorted(units.items()))
            logger.info("%s: left out while reading: %s", part, counts)

    def removed(self, part: str, reason: str, pairs: int = 1) -> None:
        """Count pairs of a part as removed for one of REASONS."""
        self._removed[part][reason] += pairs

    def unwritable(self, part: str, references: int) -> None:
        """Count held-out references of a part that no model can write."""
        self._unwritable[part] += references

    def kept(self, split: str, pairs: pyarrow.Table) -> None:
        """Count pairs, with the columns origin, source_words and target_words, as part of a split."""
        for entry in pairs.column("origin").value_counts().to_pylist():
            self._kept[split][entry["values"]] += entry["counts"]
        for side in ("source", "target"):
            self._words[split][side] += pyarrow.compute.sum(pairs.column(f"{side}_words")).as_py() or 0

    def pairs_in(self, split: str) -> int:
        """How many pairs a split has so far."""
        return self._kept[split].total()

    def training_losses(self) -> tuple[int, dict[str, int]]:
        """Of the parts that pass the filters: pairs read, and pairs removed by reason."""
        removed = {reason: sum(self._removed[part][reason] for part in self._sifted) for reason in REASONS}
        return sum(self._read[part] for part in self._sifted), removed

    def warnings(self) -> Iterator[str]:
        """A line for each filter that removed more than MANY of a part, and for references that cap the score."""
        for part in self._parts:
            for reason, pairs in self._removed[part].items():
                if pairs > MANY * self._read[part]:
                    yield (
                        f"{part}: the filter {reason} removed {pairs:,} of {self._read[part]:,} pairs; "
                        f"reports/removed/{part}.tsv shows examples, {switch_of(reason)}: false switches it off"
                    )
            if references := self._unwritable[part]:
                yield (
                    f"{part}: references with characters that the model can never write (invisible ones, or not "
                    f"in Unicode form NFC): {references:,}; they stay as published and cap the score"
                )

    def report(self) -> dict[str, Any]:
        """The content of reports/corpus.json; holds no times, so equal corpora give equal reports."""
        return {
            "pairs": {"read": self._read.total(), **{split: self.pairs_in(split) for split in SPLITS}},
            "removed": self._all_removed(),
            "words": {split: {side: self._words[split][side] for side in ("source", "target")} for split in SPLITS},
            "parts": {part: self._report_on(part) for part in self._parts},
            "origins": {split: dict(sorted(self._kept[split].items())) for split in SPLITS},
        }

    def _all_removed(self) -> dict[str, int]:
        return {reason: sum(self._removed[part][reason] for part in self._parts) for reason in REASONS}

    def _report_on(self, part: str) -> dict[str, Any]:
        kept = {
            split: sum(pairs for origin, pairs in self._kept[split].items() if part_of(origin) == part)
            for split in SPLITS
        }
        return {
            "read": self._read[part],
            "kept": kept,
            "removed": {reason: self._removed[part][reason] for reason in REASONS},
            **({"left_out": dict(sorted(left_out.items()))} if (left_out := self._left_out.get(part)) else {}),
            "unwritable_references": self._unwritable[part],
        }


def part_of(origin: str) -> str:
    """The name of the part that a pair comes from."""
    return origin.partition("/")[0]
