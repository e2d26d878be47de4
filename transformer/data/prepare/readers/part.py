"""Reading a part, whatever its format."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from transformer.data.parts import Format, Part
from transformer.data.prepare.readers.catalogue import read_catalogue_pairs
from transformer.data.prepare.readers.files import MAX_LINE_BYTES, Advance, Pair, PartFiles, RawFile
from transformer.data.prepare.readers.jsonl import read_jsonl_pairs
from transformer.data.prepare.readers.lines import read_line_pairs
from transformer.data.prepare.readers.parquet import read_parquet_pairs
from transformer.data.prepare.readers.po import read_po_pairs
from transformer.data.prepare.readers.sgm import read_sgm_pairs
from transformer.data.prepare.readers.tmx import read_tmx_pairs
from transformer.data.prepare.readers.tsv import read_tsv_pairs
from transformer.data.prepare.readers.wmt_xml import read_wmt_xml_pairs
from transformer.data.prepare.readers.xliff import read_xliff_pairs

_READERS: dict[Format, Callable[[PartFiles], Iterator[Pair]]] = {
    "lines": read_line_pairs,
    "sgm": read_sgm_pairs,
    "tsv": read_tsv_pairs,
    "jsonl": read_jsonl_pairs,
    "parquet": read_parquet_pairs,
    "tmx": read_tmx_pairs,
    "xliff": read_xliff_pairs,
    "po": read_po_pairs,
    "wmt-xml": read_wmt_xml_pairs,
    "catalogue": read_catalogue_pairs,
}
# In these, entities are markup, which the reader resolves; in the others they are what a crawler left.
MARKUP: tuple[Format, ...] = ("sgm", "tmx", "xliff", "wmt-xml")


class PairBatch(NamedTuple):
    """Aligned columns of a bounded number of pairs."""

    source: list[str]
    target: list[str]
    origin: list[str]
    further: list[tuple[str, ...]]  # references beside the target, of a test set that has several


def read_part(
    part: Part,
    raw: Path,
    batch_pairs: int,
    advance: Advance,
    left_out: Counter[str] | None = None,
    max_line_bytes: int = MAX_LINE_BYTES,
) -> Iterator[PairBatch]:
    """The pairs of `part` as its files in the folder `raw` have them, markup resolved.

    Units that are no pairs, such as untranslated ones, are counted in `left_out`.

    Raises:
        DataError: malformed input; names the file and, where there is one, the line.
    """
    source, target = (
        RawFile(raw / path, own or str(raw / path), own is not None, max_line_bytes, advance)
        for path, own in ((part.source, part.source_from), (part.target, part.target_from))
    )
    files = PartFiles(part, source, target, Counter() if left_out is None else left_out)
    empty = True
    for batch in batched(_READERS[part.format](files), batch_pairs):
        empty = False
        yield batch
    if empty:
        passed_over = f"; left out: {_counts(files.left_out)}" if files.left_out else ""
        raise source.malformed(f"it holds no pair for {part.source_language}-{part.target_language}{passed_over}")


def _counts(left_out: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))


def batched(pairs: Iterable[Pair], batch_pairs: int) -> Iterator[PairBatch]:
    """`pairs` in batches of at most `batch_pairs`."""
    iterator = iter(pairs)
    while chunk := list(islice(iterator, batch_pairs)):
        yield PairBatch(*map(list, zip(*chunk, strict=True)))


def bytes_of(part: Part, raw: Path) -> int:
    """How many bytes the files of `part` have together."""
    paths = {raw / part.source, raw / part.target}
    return sum(path.stat().st_size for path in paths if path.exists())
