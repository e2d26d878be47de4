"""SGM test sets of WMT, IWSLT and NIST: a file a side, segments in documents."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from transformer.data.cleaning import resolve_entities
from transformer.data.prepare.readers.files import Pair, PartFiles, RawFile, read_lines

_SGM_TAG = re.compile(r"<(/?)(doc|seg)\b([^>]*)>", re.IGNORECASE)
_SGM_ATTRIBUTE = re.compile(r"""([\w:-]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"']+))""")


class Segment(NamedTuple):
    """One sentence of a test set."""

    document: str
    number: str
    text: str
    line: int  # where it begins in its file, from 1


def read_segments(raw: RawFile) -> Iterator[Segment]:
    """The segments of an SGM file in their order, entities resolved, lines inside a segment joined.

    SGM is not XML: bare ampersands and angle brackets occur in the text, so only the `doc` and `seg` tags are read.

    Raises:
        DataError: a segment outside a document, without id or without end, or as in `read_lines`.
    """
    document, number, text, begin, line = None, None, "", 0, 0
    for line, content in enumerate(read_lines(raw), 1):
        position = 0
        for tag in _SGM_TAG.finditer(content):
            if number is not None:
                text += content[position : tag.start()]
            position = tag.end()
            closing, name = bool(tag[1]), tag[2].lower()
            if number is not None and not (closing and name == "seg"):
                raise raw.malformed(f"{tag[0]} inside segment {number}, which has no </seg>", line)
            if name == "doc":
                document = None if closing else _attribute(raw, line, tag, "docid")
            elif not closing:
                number, text, begin = _attribute(raw, line, tag, "id"), "", line
                if document is None:
                    raise raw.malformed(f"segment {number} is outside any <doc>", line)
            elif number is not None:
                yield Segment(str(document), number, resolve_entities(text).strip(), begin)
                number = None
        if number is not None:
            text += content[position:] + " "
            if len(text) > raw.max_line_bytes:
                raise raw.too_long(f"segment {number}", begin)
    if number is not None:
        raise raw.malformed(f"segment {number} has no </seg>: the file may be cut short", begin)


def _attribute(raw: RawFile, line: int, tag: re.Match[str], name: str) -> str:
    for key, *values in _SGM_ATTRIBUTE.findall(tag[3]):
        if key.lower() == name:
            return "".join(values)  # in double, in single or without quotes: the others are empty
    raise raw.malformed(f"{tag[0]} has no {name}", line)


def read_sgm_pairs(files: PartFiles) -> Iterator[Pair]:
    """Segment n of the source file with segment n of the reference file.

    Raises:
        DataError: the two files list different segments, or as in `read_segments`.
    """
    sources, targets = (list(read_segments(raw)) for raw in (files.source, files.target))
    for side, raw in ((sources, files.source), (targets, files.target)):
        if not side:
            raise raw.malformed("it holds no <seg>: is it an SGM file?")
    for source, target in zip(sources, targets, strict=False):
        if (source.document, source.number) != (target.document, target.number):
            raise files.target.malformed(
                f"segment {target.number} of {target.document} is where {files.source.name} has segment "
                f"{source.number} of {source.document}",
                target.line,
            )
        yield Pair(source.text, target.text, files.part.name)
    if len(sources) != len(targets):
        counts = f"it has {len(sources)} segments and {files.target.name} has {len(targets)}"
        raise files.source.malformed(counts)
