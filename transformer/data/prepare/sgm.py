"""The SGM files in which WMT publishes its test sets: `<seg>` inside `<doc>`, one file a side."""

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from transformer.data.parts import Part
from transformer.data.prepare.line_files import read_lines
from transformer.data.prepare.pairs import Advance, Pair
from transformer.errors import DataError

_TAG = re.compile(r"<(/?)(doc|seg)\b([^>]*)>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""([\w:-]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")


class Segment(NamedTuple):
    """One sentence of a test set."""

    document: str
    number: str
    text: str
    line: int  # where it begins in its file, from 1


def read_segments(path: Path, advance: Advance) -> Iterator[Segment]:
    """The segments of an SGM file in their order, entities resolved, lines inside a segment joined.

    SGM is not XML: bare ampersands and angle brackets occur in the text, so only the `doc` and `seg` tags are read.

    Raises:
        DataError: a segment outside a document, without id or without end, or as in `read_lines`.
    """
    document, number, text, begin, line = None, None, "", 0, 0
    for line, content in enumerate(read_lines(path, advance), 1):
        position = 0
        for tag in _TAG.finditer(content):
            if number is not None:
                text += content[position : tag.start()]
            position = tag.end()
            closing, name = bool(tag[1]), tag[2].lower()
            if number is not None and not (closing and name == "seg"):
                raise DataError(f"{path}, line {line}: {tag[0]} inside segment {number}, which has no </seg>")
            if name == "doc":
                document = None if closing else _attribute(path, line, tag, "docid")
            elif not closing:
                number, text, begin = _attribute(path, line, tag, "id"), "", line
                if document is None:
                    raise DataError(f"{path}, line {line}: segment {number} is outside any <doc>")
            elif number is not None:
                yield Segment(str(document), number, html.unescape(text).strip(), begin)
                number = None
        if number is not None:
            text += content[position:] + " "
    if number is not None:
        raise DataError(f"{path}, line {begin}: segment {number} has no </seg>; the file may be cut short")


def _attribute(path: Path, line: int, tag: re.Match[str], name: str) -> str:
    for key, double_quoted, single_quoted in _ATTRIBUTE.findall(tag[3]):
        if key.lower() == name:
            return str(double_quoted or single_quoted)
    raise DataError(f"{path}, line {line}: {tag[0]} has no {name}")


def read_sgm_pairs(part: Part, raw: Path, advance: Advance) -> Iterator[Pair]:
    """Segment n of the source file with segment n of the reference file.

    Raises:
        DataError: the two files list different segments, or as in `read_segments`.
    """
    source_path, target_path = raw / part.source, raw / part.target
    sources, targets = (list(read_segments(path, advance)) for path in (source_path, target_path))
    for source, target in zip(sources, targets, strict=False):
        if (source.document, source.number) != (target.document, target.number):
            raise DataError(
                f"{target_path}, line {target.line}: segment {target.number} of {target.document} stands where "
                f"{source_path} has segment {source.number} of {source.document}"
            )
        yield Pair(source.text, target.text, part.name)
    if len(sources) != len(targets):
        raise DataError(f"{source_path} has {len(sources)} segments, {target_path} has {len(targets)}")
    if not sources:
        raise DataError(f"{source_path} holds no <seg>: is it an SGM file?")
