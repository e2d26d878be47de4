"""XML read one unit at a time: bounded memory, no entities but XML's own five, nothing fetched or opened."""

import re
from collections.abc import Collection, Iterator
from typing import Any

from lxml import etree

from transformer.data.compression import DAMAGE, unpacked
from transformer.data.prepare.readers.files import RawFile, trouble

INPUT_BYTES = 1 << 16
LONGEST_TEXT = 10_000_000  # bytes of a text node that lxml takes
LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
# lxml bounds the depth, too, to 256 levels; no external DTD is read, though many name one.
_SAFE = {
    "resolve_entities": False,
    "no_network": True,
    "load_dtd": False,
    "huge_tree": False,
    "remove_comments": True,
    "remove_pis": True,
}

SPELL = "say in data/corpora.yaml how the file spells each language"  # what to do where one is not found

Element = Any  # lxml.etree._Element, which has no public name


def local_name(element: Element) -> str:
    """The name of an element without its namespace, with a prefix that stands for none."""
    return str(element.tag).rpartition("}")[2]


def read_units(raw: RawFile, root: Collection[str], units: Collection[str]) -> Iterator[Element]:
    """Each element that is called one of `units`, complete, below a root that is called one of `root`.

    An element is emptied after it has been yielded; its ancestors keep their attributes.

    Raises:
        DataError: not well-formed, another root, declared entities, damaged compression.
    """
    parser = etree.XMLPullParser(events=("start", "end"), **_SAFE)
    etree.clear_error_log()  # it keeps what other parsers of this process said
    begun, within, last_event, reached = False, False, 0, 0
    try:
        for count in _fed(raw, parser):
            reached += count
            if reached - last_event > max(raw.max_line_bytes, LONGEST_TEXT):  # a tag or a comment without an end
                raise raw.malformed(f"more than {LONGEST_TEXT // 10**6} MB without a tag")
            for event, element in parser.read_events():
                last_event = reached
                if not begun:
                    _check_root(raw, element, root)
                    begun = True
                is_unit = local_name(element) in units
                if event == "start":
                    within = within or is_unit
                    continue
                if is_unit:
                    yield element
                    within = False
                if not within:
                    _free(element)
    except etree.XMLSyntaxError as error:
        # The first of its complaints is the cause of the one that is raised.
        found = [(one.message, one.line) for one in error.error_log.filter_from_errors()]
        message, line = (found or [(str(error.msg), error.lineno)])[0]
        raise raw.malformed(f"not well-formed XML ({_reason(message)})", line or 1) from None
    except (*DAMAGE, OSError) as error:
        raise trouble(raw, error) from None


def _reason(message: str) -> str:
    """The parser's words without its position and its advice to programmers."""
    return re.sub(r"\W*(?:, (?:line \d|see |try ).*)?$", "", message.strip())


def _fed(raw: RawFile, parser: etree.XMLPullParser) -> Iterator[int]:
    """Feeds the file to the parser, piece by piece; yields how long each was."""
    with raw.path.open("rb") as file:
        content, reached = unpacked(file), 0
        while piece := content.read(INPUT_BYTES):
            parser.feed(piece)
            yield len(piece)
            raw.advance(file.tell() - reached)
            reached = file.tell()
    parser.close()
    yield 0


def _check_root(raw: RawFile, element: Element, root: Collection[str]) -> None:
    name, declared = local_name(element), element.getroottree().docinfo.internalDTD
    if declared is not None and any(True for _ in declared.iterentities()):
        raise raw.malformed("it declares entities, which are not read", 1, mend="write what they stand for")
    if name not in root:
        raise raw.malformed(f"its root is <{name}>, not <{'> or <'.join(sorted(root))}>", element.sourceline)


def _free(element: Element) -> None:
    """Empty a finished element and drop what stands before it."""
    element.clear(keep_tail=False)
    for one in (element, *element.iterancestors()):
        while one.getparent() is not None and (before := one.getprevious()) is not None:
            one.getparent().remove(before)


def plain_text(raw: RawFile, element: Element, codes: Collection[str]) -> str:
    """The text of an element, without what stands in the elements called `codes`: markup of the original document.

    A code that stands for a line break becomes a space.

    Raises:
        DataError: a text of more than `max_line_bytes`, or with an entity that XML does not know.
    """
    text = "".join(_texts(raw, element, codes))
    if len(text) > raw.max_line_bytes:
        raise raw.too_long("a text", element.sourceline)
    return text


def _texts(raw: RawFile, element: Element, codes: Collection[str]) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        if child.tag is etree.Entity:
            raise raw.malformed(
                f"{child.text} is no entity of XML", element.sourceline, mend="write the character itself"
            )
        name = local_name(child)
        if name == "cp":  # XLIFF 2: a character that XML cannot hold
            yield _control(child.get("hex", ""))
        elif name not in codes:
            yield from _texts(raw, child, codes)
        elif "lb" in (child.get("ctype"), child.get("subType", "").removeprefix("xlf:"), child.get("type")):
            yield " "
        yield child.tail or ""


def _control(digits: str) -> str:
    try:
        return chr(int(digits, 16))
    except (ValueError, OverflowError):
        return ""


def speaks(spelled: str | None, wanted: str) -> bool:
    """Whether a file's language, as in `en-US`, is the one that is asked for: `en-us`, or `en` for any region."""
    if spelled is None:
        return False
    have, want = (code.lower().replace("_", "-") for code in (spelled, wanted))
    return have == want or have.startswith(f"{want}-")
