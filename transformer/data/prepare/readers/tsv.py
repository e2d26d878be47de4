"""Tab-separated files, without quoting."""

from collections.abc import Iterator

from transformer.data.prepare.readers.files import Pair, PartFiles, RawFile, line_pairs, read_lines
from transformer.errors import DataError


def read_tsv_pairs(files: PartFiles) -> Iterator[Pair]:
    """Two columns, by their numbers from 0 or by the names in the first line.

    Raises:
        DataError: an unknown column, a line with another number of columns, or as in `read_lines`.
    """
    part, raw = files.part, files.source
    lines = enumerate(read_lines(raw), 1)
    header = next(lines)[1].split("\t") if part.header else None
    if header:
        source_column, target_column = (
            _position(raw, header, name) for name in (part.source_field, part.target_field)
        )
    else:
        source_column, target_column = int(part.source_field), int(part.target_field)
    width = len(header) if header else part.width or max(source_column, target_column) + 1

    def sides(number: int, line: str) -> tuple[str, str]:
        columns = line.split("\t")
        if len(columns) != width:
            raise _wrong_width(files, line, number, width)
        return columns[source_column], columns[target_column]

    yield from line_pairs(files, lines, sides)


def _position(raw: RawFile, names: list[str], name: str) -> int:
    found = [position for position, one in enumerate(names) if one.strip() == name]
    if len(found) != 1:
        how = f"no column {name!r}" if not found else f"{len(found)} columns {name!r}"
        setting = "name another one in data/corpora.yaml, or number them from 0"
        raise raw.malformed(f"{how}; its first line names {', '.join(names)}", 1, setting=setting)
    return found[0]


def _wrong_width(files: PartFiles, line: str, number: int, width: int) -> DataError:
    part, raw, columns = files.part, files.source, line.count("\t") + 1
    if not line.strip():
        return raw.blank(number)
    said = "its first line has" if part.header else "width is" if part.width else "data/corpora.yaml speaks of"
    what = f"{columns} column{'' if columns == 1 else 's'} between tabs where {said} {width}"
    if part.header or part.width or columns < width:
        return raw.malformed(what, number)
    setting = f"say `width: {columns}` there if every line has so many, or mend the line"
    return raw.malformed(what, number, setting=setting)
