"""The prepare stage: raw parts become a clean, deduplicated, decontaminated corpus in three splits."""

import importlib.metadata
import logging
import platform
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow
from numpy.typing import NDArray

from transformer.chunks import Executor, map_chunks, read_table
from transformer.data.cleaning import clean_text
from transformer.data.parts import Part, Split, read_parts
from transformer.data.prepare.clean import CleanChunk, RawChunk, clean_chunk
from transformer.data.prepare.decontamination import VERDICTS, HeldOut, HeldOutTexts, judge_chunk
from transformer.data.prepare.readers.part import bytes_of, read_part
from transformer.data.prepare.removed import Samples
from transformer.data.prepare.scripts import foreign_letter
from transformer.data.prepare.splits import (
    FURTHER,
    SCHEMA,
    SCHEMA_WITH_FURTHER,
    SPLITS,
    first_occurrences,
    pair_table,
    split_numbers,
    split_writer,
)
from transformer.data.prepare.tally import REASONS, Tally, switch_of
from transformer.errors import DataError
from transformer.files import write_json
from transformer.params import PreparationParams
from transformer.progress import byte_progress, chunk_progress
from transformer.working_folder import name_of, settings_of, working_folder, write_settings

log = logging.getLogger(__name__)
CODE = (
    "data/prepare", "data/cleaning.py", "data/compression.py", "data/parts.py", "data/placeholders.py",
    "tokens/ranges.py", "languages.py",
)  # fmt: skip
# Packages that decide which pairs stay and how their text is read: chunks of another version are not gone on with.
PACKAGES = ("babel", "langcodes", "language-data", "lxml", "pyarrow", "regex")
REMOVED = "removed"  # the folder of examples beside the report
NOWHERE = -1  # in place of a position in SPLITS


class _Sorted(NamedTuple):
    """A chunk and where each of its pairs goes."""

    chunk: CleanChunk
    split: NDArray[np.int8]  # (rows,), positions in SPLITS or NOWHERE

    def pairs(self, split: str, columns: list[str] | None = None) -> pyarrow.Table:
        """The pairs of a split in their order."""
        return read_table(self.chunk.path, columns).filter(pyarrow.array(self.split == SPLITS.index(split)))


def prepare(params: PreparationParams, raw: Path, corpus: Path, report: Path, work: Path, executor: Executor) -> None:
    """Read the parts that `download` left in `raw`; write train, valid and test.parquet to `corpus` and the report.

    Examples of what each filter removed go to the folder `removed` beside the report.

    Official valid and test parts are kept line for line: no pair is dropped or moved, the source is cleaned as in the
    translator, the reference stays as published. All other pairs pass the filters, and of pairs with the
    same source the first stays. The corpus passes through memory in chunks of `params.batch_pairs` pairs, of which
    `executor` computes several at a time; finished chunks are kept in a folder below `work`, so that an interrupted
    run continues where it stopped. The order of the pairs, and so every byte, is that of the parts.

    Raises:
        DataError: malformed input, a split that ends up empty, or another process doing the same work.
    """
    parts = read_parts(raw)
    tally, samples = Tally(parts), Samples()
    corpus.mkdir(parents=True, exist_ok=True)
    versions = {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in PACKAGES}}
    settings = settings_of({"preparation": params.model_dump()}, CODE, raw, **versions)
    _tell_unknown_scripts(params, parts)
    with working_folder(work, name_of(settings)) as folder:
        write_settings(folder, settings)
        cleaned = _clean(params, parts, raw, executor, folder / "clean", tally, samples)
        chunks = _deduplicate(params, parts, cleaned, tally, samples)
        held_out = _held_out(params, *_write_held_out(chunks, corpus, tally))
        verdicts = _judge(chunks, held_out, executor, folder / "verdicts")
        _write_train(chunks, verdicts, corpus / "train.parquet", tally, samples)
        samples.write(report.parent / REMOVED, REASONS)
        for warning in tally.warnings():
            log.warning(warning)
        _check_splits(params, tally)
        write_json(report, tally.report())
        shutil.rmtree(folder)


def _tell_unknown_scripts(params: PreparationParams, parts: list[Part]) -> None:
    languages = sorted({language for part in parts for language in (part.source_language, part.target_language)})
    for language in languages if params.filters.wrong_script else []:
        if foreign_letter(language) is None:
            log.info("%s: its script is unknown, so the filter wrong_script passes over that side", language)


def _clean(
    params: PreparationParams,
    parts: list[Part],
    raw: Path,
    executor: Executor,
    folder: Path,
    tally: Tally,
    samples: Samples,
) -> list[CleanChunk]:
    """Clean and filter all parts, chunk by chunk."""
    with byte_progress("clean and filter", sum(bytes_of(part, raw) for part in parts)) as shown:
        raw_chunks = _raw_chunks(params, parts, raw, _Progress(shown), tally)
        paths = map_chunks(executor, clean_chunk, params, raw_chunks, folder)
    chunks = []
    for path in paths:
        chunk = CleanChunk.open(path)
        tally.read(chunk.part, chunk.read)
        tally.unwritable(chunk.part, chunk.unwritable)
        for reason, pairs in chunk.removed.items():
            tally.removed(chunk.part, reason, pairs)
            samples.add(chunk.part, reason, chunk.examples[reason])
        chunks.append(chunk._replace(examples={}))
    return chunks


def _raw_chunks(
    params: PreparationParams, parts: list[Part], raw: Path, advance: Callable[[int], None], tally: Tally
) -> Iterator[RawChunk]:
    for part in parts:
        left_out: Counter[str] = Counter()
        for batch in read_part(part, raw, params.batch_pairs, advance, left_out, params.max_line_bytes):
            yield RawChunk(part, pair_table(batch))
        tally.left_out(part.name, left_out)


class _Progress:
    """Adds up the bytes that readers report, for a progress display that takes their sum."""

    def __init__(self, shown: Callable[[int], None]) -> None:
        self._shown, self._reached = shown, 0

    def __call__(self, count: int) -> None:
        self._reached += count
        self._shown(self._reached)


def _deduplicate(
    params: PreparationParams, parts: list[Part], chunks: list[CleanChunk], tally: Tally, samples: Samples
) -> list[_Sorted]:
    """Assign every pair that is no duplicate to a split."""
    sifted = [chunk for chunk in chunks if not chunk.held_out]
    new_source = first_occurrences(lambda: (chunk.hashes("source_hash") for chunk in sifted))
    new_pair = first_occurrences(lambda: (chunk.hashes("pair_hash") for chunk in sifted))
    missing, rule = _missing_splits(params, parts), params.filters.duplicates
    result, begin = [], 0
    for chunk in chunks:
        if chunk.split is None or chunk.split == "train":
            drawn = missing if chunk.split else frozenset[Split](("valid", "test"))
            split = split_numbers(chunk.hashes("source_hash"), params, drawn)
        else:
            split = np.full(chunk.rows, SPLITS.index(chunk.split), dtype=np.int8)
        if not chunk.held_out:
            is_new, pair_is_new = (first[begin : begin + chunk.rows] for first in (new_source, new_pair))
            begin += chunk.rows
            again = {"duplicate_pair": ~pair_is_new, "duplicate_source": pair_is_new & ~is_new}
            for reason in {"source": [*again], "pair": ["duplicate_pair"], None: []}[rule]:
                split[again[reason]] = NOWHERE
                tally.removed(chunk.part, reason, int(np.sum(again[reason])))
                _add_examples(samples, chunk, reason, again[reason])
        result.append(_Sorted(chunk, split))
    return result


def _missing_splits(params: PreparationParams, parts: list[Part]) -> frozenset[Split]:
    """The splits that no part brings, and which are then drawn from the training parts."""
    given = {part.split for part in parts}
    missing = frozenset(split for split in SPLITS if split not in given and None not in given)
    for split in sorted(missing - {"train"}):
        share = params.valid_share if split == "valid" else params.test_share
        log.info(
            "no corpus has a %s split: %g of the training sources are held out for it, by a stable hash "
            "(preparation.%s_share)", split, share, split,
        )  # fmt: skip
    return missing


def _add_examples(samples: Samples, chunk: CleanChunk, reason: str, removed: NDArray[np.bool_]) -> None:
    def read(rows: pyarrow.Array) -> pyarrow.Table:
        return read_table(chunk.path, ["source", "target"]).filter(pyarrow.array(removed)).take(rows)

    if removed.any():
        samples.add_rows(chunk.part, reason, chunk.hashes("pair_hash")[removed], read)


def _write_held_out(chunks: list[_Sorted], corpus: Path, tally: Tally) -> tuple[list[str], list[str]]:
    """Write the valid and the test split; returns their sources and their references."""
    sources, references = list[str](), list[str]()
    with ExitStack() as stack:
        for split in SPLITS[1:]:
            held_out = [chunk for chunk in chunks if SPLITS.index(split) in chunk.split]
            with_further = any(chunk.chunk.has_further for chunk in held_out if split == "test")
            schema = SCHEMA_WITH_FURTHER if with_further else SCHEMA
            writer = stack.enter_context(split_writer(corpus / f"{split}.parquet", schema))
            for chunk in held_out:
                pairs = chunk.pairs(split)
                writer.write(pairs)
                tally.kept(split, pairs)
                sources += pairs.column("source").to_pylist()
                references += pairs.column("target").to_pylist()
                if FURTHER in pairs.column_names:
                    references += pairs.column(FURTHER).combine_chunks().flatten().to_pylist()
    return sources, references


def _held_out(params: PreparationParams, sources: list[str], references: list[str]) -> HeldOut:
    near_source, near_target = params.filters.held_out, params.filters.held_out_target
    return HeldOut(
        HeldOutTexts(sources, near_source) if near_source is not None else None,
        HeldOutTexts(list(map(clean_text, references)), near_target) if near_target is not None else None,
    )


def _judge(chunks: list[_Sorted], held_out: HeldOut, executor: Executor, folder: Path) -> list[Path]:
    """Compare the training pairs of each chunk with the held-out ones."""
    pairs = (chunk.pairs("train", ["source", "target"]) for chunk in chunks)
    with chunk_progress("decontaminate", len(chunks)) as shown:
        return map_chunks(executor, judge_chunk, held_out, pairs, folder, shown)


def _write_train(chunks: list[_Sorted], verdicts: list[Path], path: Path, tally: Tally, samples: Samples) -> None:
    """Write the training pairs that are in no held-out set, exactly or nearly."""
    with split_writer(path) as writer:
        for chunk, verdict_path in zip(chunks, verdicts, strict=True):
            verdict = read_table(verdict_path).column("verdict").to_numpy()
            pairs = chunk.pairs("train")
            for number, reason in enumerate(VERDICTS, 1):
                removed = pairs.filter(pyarrow.array(verdict == number))
                tally.removed(chunk.chunk.part, reason, removed.num_rows)
                samples.add_rows(chunk.chunk.part, reason, removed.column("pair_hash").to_numpy(), removed.take)
            pairs = pairs.filter(pyarrow.array(verdict == 0))
            tally.kept("train", pairs)
            writer.write(pairs)


def _check_splits(params: PreparationParams, tally: Tally) -> None:
    for split in SPLITS:
        if tally.pairs_in(split) == 0:
            raise DataError(f"the {split} split is empty: {_why_empty(params, split, tally)}")


def _why_empty(params: PreparationParams, split: Split, tally: Tally) -> str:
    """An official valid or test split has at least a pair, so that this is about pairs that pass the filters."""
    read, removed = tally.training_losses()
    if not read:
        return "no corpus brings training pairs; give one with `train` or `all` (published: split train, or none)"
    kept = read - sum(removed.values())
    if not kept:
        most = sorted(removed, key=lambda reason: -removed[reason])[:3]
        counts = ", ".join(f"{removed[reason]} by {switch_of(reason)}" for reason in most if removed[reason])
        return f"all {read} training pairs were removed, {counts}; mend the corpus or switch that filter off"
    if split == "train":
        return f"all {kept} pairs fell into the others by the hash of their source; add more text"
    share = params.valid_share if split == "valid" else params.test_share
    key = f"preparation.{split}_share = {share}"
    return f"at {key} none of {kept} pairs falls into it; add more text, raise that, or give a {split} set"
