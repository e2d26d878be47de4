"""Tab-separated files, without quoting."""

from collections.abc import Iterator

from transformer.data.prepare.readers.files import Pair, PartFiles, RawFile, read_lines


def read_tsv_pairs(files: PartFiles) -> Iterator[Pair]:
    """Two columns, by their numbers from 0 or by the names in the first line.

    Raises:
        DataError: an unknown column, a line with another number of columns, or as in `read_lines`.
    """
    part, raw = files.part, files.source
    lines = enumerate(read_lines(raw), 1)
    if part.header:
        names = next(lines)[1].split("\t")
        source_column, target_column = (
            _position(raw, names, name) for name in (part.source_field, part.target_field)
        )
        width, declared = len(names), "its first line has"
    else:
        source_column, target_column = int(part.source_field), int(part.target_field)
        width = part.width or max(source_column, target_column) + 1
        declared = "width says" if part.width else f"columns {source_column} and {target_column} are the last of"
    for number, line in lines:
        if not line.strip() and part.blank_lines:
            if part.blank_lines == "keep":
                yield Pair("", "", part.name)
            else:
                files.left_out["blank_line"] += 1
            continue
        columns = line.split("\t")
        if len(columns) != width:
            raise raw.malformed(_wrong_width(line, len(columns), width, declared), number)
        yield Pair(columns[source_column], columns[target_column], part.name)


def _position(raw: RawFile, names: list[str], name: str) -> int:
    found = [position for position, one in enumerate(names) if one.strip() == name]
    if len(found) != 1:
        how = "no column" if not found else f"{len(found)} columns"
        raise raw.malformed(f"it has {how} {name!r}; its first line names {', '.join(names)}", 1)
    return found[0]


def _wrong_width(line: str, columns: int, width: int, declared: str) -> str:
    if not line.strip():
        return "a blank line; say `blank_lines: skip`, or `keep` for an empty pair"
    plural = "" if columns == 1 else "s"
    return (
        f"{columns} column{plural} between tabs where {declared} {width}; say `width: {columns}` if every line has "
        "so many"
    )
