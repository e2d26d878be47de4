"""The prepare stage: raw parts become a clean, deduplicated, decontaminated corpus in three splits."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from transformer.data.cleaning import clean_text, fold_text
from transformer.data.parts import Part, read_parts
from transformer.data.prepare.decontamination import HeldOutSources
from transformer.data.prepare.filters import PairFilter
from transformer.data.prepare.pairs import PairBatch
from transformer.data.prepare.params import PreparationParams
from transformer.data.prepare.readers import bytes_of, read_part
from transformer.data.prepare.split_files import read_split, split_writer
from transformer.data.prepare.splitting import SeenHashes, split_of, text_hash
from transformer.data.prepare.tally import SPLITS, Tally, part_of
from transformer.errors import DataError
from transformer.files import write_json
from transformer.progress import byte_progress


def prepare(params: PreparationParams, raw: Path, corpus: Path, report: Path) -> None:
    """Read the parts that `download` left in `raw`; write train, valid and test.parquet to `corpus` and the report.

    Official valid and test parts are kept line for line: no pair is dropped or moved, the source is cleaned as the
    translator would, the reference stays as published. All other pairs pass the filters, and of pairs with the
    same source the first stays. The corpus passes through memory `params.batch_pairs` pairs at a time.

    Raises:
        DataError: malformed input, or a split that ends without any pair.
    """
    parts = read_parts(raw)
    tally = Tally(parts)
    corpus.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=corpus, prefix=".") as folder:
        candidates = Path(folder) / "train.parquet"
        held_out = _split(params, parts, raw, {"train": candidates, **_held_out_files(corpus)}, tally)
        _decontaminate(params, candidates, held_out, corpus / "train.parquet", tally)
    _check_splits(tally)
    write_json(report, tally.report())


def _held_out_files(corpus: Path) -> dict[str, Path]:
    return {split: corpus / f"{split}.parquet" for split in SPLITS if split != "train"}


def _split(
    params: PreparationParams, parts: list[Part], raw: Path, files: dict[str, Path], tally: Tally
) -> HeldOutSources:
    """Clean, filter and split all parts into `files`; returns the sources of valid and test."""
    seen = _Seen()
    held_out: list[str] = []
    with ExitStack() as stack:
        writers = {split: stack.enter_context(split_writer(path)) for split, path in files.items()}
        shown = stack.enter_context(byte_progress("clean and split", sum(bytes_of(part, raw) for part in parts)))
        progress = _Progress(shown)
        for part in parts:
            batches = read_part(part, raw, params.batch_pairs, progress)
            for split, batch in _pairs_of(params, batches, part, seen, tally):
                writers[split].write(batch)
                if split != "train":
                    tally.kept(split, batch)
                    held_out += batch.source
    return HeldOutSources(held_out, params.near_duplicate_jaccard)


class _Progress:
    """Turns the bytes that readers report one by one into the sum that a progress display takes."""

    def __init__(self, shown: Callable[[int], None]) -> None:
        self._shown, self._reached = shown, 0

    def __call__(self, count: int) -> None:
        self._reached += count
        self._shown(self._reached)


class _Seen:
    """The sources and pairs that have passed the filters so far."""

    def __init__(self) -> None:
        self.sources = SeenHashes()
        self.pairs = SeenHashes()


def _pairs_of(
    params: PreparationParams, batches: Iterator[PairBatch], part: Part, seen: _Seen, tally: Tally
) -> Iterator[tuple[str, PairBatch]]:
    """The pairs of a part that stay, by split."""
    filters = PairFilter(params, part.source_language, part.target_language)
    for batch in batches:
        tally.read(part.name, len(batch))
        if part.split in ("valid", "test"):
            references = [text.strip() for text in batch.target]
            yield part.split, PairBatch([clean_text(text) for text in batch.source], references, batch.origin)
        else:
            yield from _deduplicated(params, part, _filtered(filters, part, batch, tally), seen, tally).items()


def _filtered(filters: PairFilter, part: Part, batch: PairBatch, tally: Tally) -> PairBatch:
    """The cleaned pairs that no filter removes."""
    kept = PairBatch()
    for pair in batch:
        cleaned = pair._replace(source=clean_text(pair.source), target=clean_text(pair.target))
        reason = filters.reason_against(cleaned.source, cleaned.target)
        if reason is None:
            kept.append(cleaned)
        else:
            tally.removed(part.name, reason)
    return kept


def _deduplicated(
    params: PreparationParams, part: Part, batch: PairBatch, seen: _Seen, tally: Tally
) -> dict[str, PairBatch]:
    """The pairs whose source is new, by split."""
    kept: dict[str, PairBatch] = {split: PairBatch() for split in SPLITS}
    hashes = [text_hash(fold_text(text)) for text in batch.source]
    pair_hashes = [text_hash(f"{fold_text(pair.source)}\n{fold_text(pair.target)}") for pair in batch]
    new_source = seen.sources.add(np.array(hashes, dtype=np.uint64))
    new_pair = seen.pairs.add(np.array(pair_hashes, dtype=np.uint64))
    for pair, source_hash, is_new in zip(batch, hashes, new_source, strict=True):
        if is_new:
            kept[part.split or split_of(source_hash, params)].append(pair)
    tally.removed(part.name, "duplicate_pair", int(np.sum(~new_pair)))
    tally.removed(part.name, "duplicate_source", int(np.sum(new_pair & ~new_source)))
    return kept


def _decontaminate(
    params: PreparationParams, candidates: Path, held_out: HeldOutSources, train: Path, tally: Tally
) -> None:
    """Copy the candidate pairs to the training split, without those that a held-out source gives away."""
    with split_writer(train) as writer, byte_progress("decontaminate", candidates.stat().st_size) as shown:
        for batch in read_split(candidates, params.batch_pairs, _Progress(shown)):
            exact = held_out.exact(batch.source)
            near = held_out.near(batch.source)
            kept = PairBatch()
            for pair, is_exact, is_near in zip(batch, exact, near, strict=True):
                if is_exact or is_near:
                    tally.removed(part_of(pair.origin), "held_out_exact" if is_exact else "held_out_near")
                else:
                    kept.append(pair)
            tally.kept("train", kept)
            writer.write(kept)


def _check_splits(tally: Tally) -> None:
    for split in SPLITS:
        if tally.pairs_in(split) == 0:
            share = "" if split == "train" else f", raise preparation.{split}_share"
            raise DataError(
                f"the {split} split is empty, {tally.losses()}: add more text, add a part with split {split}{share} "
                "or relax that filter"
            )
