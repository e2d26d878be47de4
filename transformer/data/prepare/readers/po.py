"""PO files of gettext: the original text (`msgid`) and its translation (`msgstr`), or two files with equal keys."""

import codecs
import re
from collections.abc import Iterator
from typing import NamedTuple

from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import PoFileError, read_po

from transformer.data.prepare.readers.files import Pair, PartFiles, RawFile, byte_lines

_LINE = re.compile(
    rb"""\s*(?:\#.*|(?:(?:msgctxt|msgid|msgid_plural|msgstr|msgstr\[\d+\])\s*)?"(?:[^"\\]|\\.)*"\s*)?"""
)

Key = tuple[str, str]  # context, original text


class Entry(NamedTuple):
    """A text and its translation; a message with plural forms is two."""

    key: Key
    original: str
    translation: str
    is_fuzzy: bool


def read_po_pairs(files: PartFiles) -> Iterator[Pair]:
    """Original and translation of each message, or the translations of the same messages in two files.

    Fuzzy and untranslated messages are left out and counted; obsolete ones are comments. A message with plural forms
    makes two pairs: the singular with the first form, the plural with the last.

    Raises:
        DataError: not a PO file, or damaged compression.
    """
    part = files.part
    if files.source.path != files.target.path:
        yield from _joined(files)
        return
    swapped = part.source_field == "msgstr"
    for entry in _entries(files.source):
        if reason := _reason_against(entry):
            files.left_out[reason] += 1
        elif swapped:
            yield Pair(entry.translation, entry.original, part.name)
        else:
            yield Pair(entry.original, entry.translation, part.name)


def _joined(files: PartFiles) -> Iterator[Pair]:
    targets = {entry.key: entry for entry in _entries(files.target)}
    for source in _entries(files.source):
        target = targets.get(source.key)
        reason = _reason_against(source) or (_reason_against(target) if target else "untranslated")
        if target is None or reason:
            files.left_out[reason or "untranslated"] += 1
        else:
            yield Pair(source.translation, target.translation, files.part.name)


def _reason_against(entry: Entry) -> str | None:
    if entry.is_fuzzy:
        return "fuzzy"
    return None if entry.translation.strip() else "untranslated"


def _entries(raw: RawFile) -> Iterator[Entry]:
    for message in _catalogue(raw):
        if message.id:  # not the header
            for original, translation in _forms(message):
                if max(len(original), len(translation)) > raw.max_line_bytes:
                    raise raw.too_long("a message", message.lineno)
                yield Entry((message.context or "", original), original, translation, message.fuzzy)


def _catalogue(raw: RawFile) -> Catalog:
    try:
        return read_po(_checked_lines(raw), abort_invalid=True)
    except PoFileError as error:
        what, _, _ = str(error).rpartition(" on ")  # behind it stands the line's number, from 0
        raise raw.malformed(f"not a PO file ({what})", error.lineno + 1) from None
    except (ValueError, LookupError) as error:
        what = f"not in the charset that its header names ({error})"
        raise raw.malformed(what) from None


def _checked_lines(raw: RawFile) -> Iterator[bytes]:
    """The file's lines; Babel alone cuts a text without quotes at both ends and passes over what it can't read."""
    for number, line in enumerate(byte_lines(raw), 1):
        line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if not _LINE.fullmatch(line):
            raise raw.malformed("neither a comment nor a keyword and a text in quotes, as in PO files", number)
        yield line


def _forms(message: Message) -> Iterator[tuple[str, str]]:
    """Original and translation, and the plural's where there is one."""
    originals, forms = (
        [side] if isinstance(side, str) else list(side or [""]) for side in (message.id, message.string)
    )
    yield originals[0], forms[0] or ""
    if len(originals) > 1:
        yield originals[1], forms[-1] or ""
