"""JSON lines: an object a line, its texts under keys that may be nested (`translation.en`)."""

import json
from collections.abc import Iterator
from typing import Any

from transformer.data.prepare.readers.files import Pair, PartFiles, RawFile, line_pairs, read_lines

LINES_OF_ARRAY = "make an object a line of it (jq -c '.[]')"
NAME_KEYS = "name one of them in data/corpora.yaml, or mend the line"


def read_jsonl_pairs(files: PartFiles) -> Iterator[Pair]:
    """Two texts of each object; null is an empty sentence.

    Raises:
        DataError: a line that is no object, a missing key, a value that is not text, or as in `read_lines`.
    """
    part, raw = files.part, files.source

    def sides(number: int, line: str) -> tuple[str, str]:
        row = _object(raw, line, number)
        return _text(raw, row, part.source_field, number), _text(raw, row, part.target_field, number)

    return line_pairs(files, enumerate(read_lines(raw), 1), sides)


def _object(raw: RawFile, line: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        if not line.strip():
            raise raw.blank(number) from None
        if number == 1 and line.lstrip().startswith("["):
            raise raw.malformed("one JSON array", mend=LINES_OF_ARRAY) from None
        where = f"{error.msg}, character {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise raw.malformed(f"not JSON ({where})", number) from None
    if not isinstance(row, dict):
        mend = LINES_OF_ARRAY if isinstance(row, list) else "mend it"
        raise raw.malformed(f"{type(row).__name__} where JSON lines have an object", number, mend=mend)
    return row


def _text(raw: RawFile, row: dict[str, Any], key: str, number: int) -> str:
    try:
        value = _value(row, key)
    except KeyError:
        raise raw.malformed(f"no key {key!r}; there are {', '.join(_keys(row))}", number, setting=NAME_KEYS) from None
    if value is not None and not isinstance(value, str):
        raise raw.malformed(f"{key!r} is {json.dumps(value)[:40]}, not text", number)
    try:
        (value or "").encode("utf-8")  # JSON can spell half a surrogate pair, which is not a character
    except UnicodeEncodeError:
        raise raw.malformed(f"{key!r} holds half a surrogate pair, which is not a character", number) from None
    return value or ""


def _value(row: dict[str, Any], key: str) -> Any:
    """What stands under the key itself, else under its dotted path."""
    if key in row:
        return row[key]
    first, dot, rest = key.partition(".")
    if not dot or not isinstance(row[first], dict):
        raise KeyError(key)
    return _value(row[first], rest)


def _keys(row: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in row.items():
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
