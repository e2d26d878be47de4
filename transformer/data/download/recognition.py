"""What format a user's file has: by its content where that tells, else by its name."""

import re
from pathlib import Path, PurePosixPath

from transformer.data.compression import DAMAGE, damage, head_of
from transformer.data.parts import Format
from transformer.errors import DataError

MARKUP_SUFFIXES = (".xml", ".html", ".htm")
COMPRESSION_SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
SUFFIXES: dict[str, Format] = {
    ".tsv": "tsv",
    ".tab": "tsv",
    ".sgm": "sgm",
    ".sgml": "sgm",
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".tmx": "tmx",
    ".xlf": "xliff",
    ".xliff": "xliff",
    ".po": "po",
    ".pot": "po",
}
_ROOTS: dict[str, Format] = {
    "tmx": "tmx",
    "xliff": "xliff",
    "dataset": "wmt-xml",
    **dict.fromkeys(("mteval", "srcset", "refset", "tstset"), "sgm"),
}
_UNREADABLE = {
    b"PK\x03\x04": "a zip archive or an office document",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"%PDF-": "a PDF file",
    b"\x04\x22\x4d\x18": "compressed with lz4",
    b"\x1f\x9d": "compressed with compress (.Z)",
    b"SQLite format 3\0": "an SQLite database",
}
_PROLOG = re.compile(r"\s*(?:<\?[^>]*\?>|<!--.*?-->|<!DOCTYPE[^>\[]*(?:\[.*?\]\s*)?>)", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"<([A-Za-z][\w:.-]*)(?:\s[^<>]*)?>", re.DOTALL)
# A first line that is nothing but a tag, or one of the fields before each talk of IWSLT's training files.
_MARKUP_LINE = re.compile(r"<[!?]|<([A-Za-z][\w:.-]*)(\s[^<>]*)?>\s*$|<(url|doc|docid|talkid|title|seg)\b")

_WRAPPED_LINE = re.compile(r"<([A-Za-z][\w:.-]*)(?:\s[^<>]*)?>.*</\1\s*>")


def suffix_of(name: str) -> str:
    """The last suffix of a file's name in lower case, without one that says how the file is compressed."""
    path = PurePosixPath(name.lower())
    return PurePosixPath(path.stem).suffix if path.suffix in COMPRESSION_SUFFIXES else path.suffix


def format_by_name(name: str) -> Format | None:
    """The format that a file's name tells, None where it tells none."""
    return SUFFIXES.get(suffix_of(name))


def recognised_format(file: Path, key: str, said: Format | None = None) -> Format | None:
    """The format of a file: as `said`, or according to its content or else its name; None: text of none of them.

    Raises:
        DataError: it is missing, unreadable or damaged, or holds what cannot be read; `key` says where
            data/corpora.yaml names it.
    """
    head = _head(file, key)
    if said:
        return said
    if head.startswith(b"PAR1"):
        return "parquet"
    if kind := next((kind for magic, kind in _UNREADABLE.items() if head.startswith(magic)), None):
        raise DataError(f"{key}: {file} is {kind}: unpack or export it as text first")
    if head[257:262] == b"ustar":
        raise DataError(f"{key}: {file} is a tar archive: unpack it first")
    text = _decoded(head)
    by_content = _ROOTS.get(_root(text) or "")
    found = by_content or format_by_name(file.name)
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    if found is None and (suffix_of(file.name) in MARKUP_SUFFIXES or _is_markup(lines)):
        raise DataError(
            f"{key}: {file} is markup ({lines[0][:60] if _is_markup(lines) else 'by its name'}): say its `format:` "
            f"({', '.join(sorted(set(SUFFIXES.values())))}, wmt-xml, or lines to take it as it is)"
        )
    return found


def _is_markup(lines: list[str]) -> bool:
    """Whether text begins with markup, or its first lines all stand in the same element, as in <s id=1>…</s>."""
    if lines and _MARKUP_LINE.match(lines[0]):
        return True
    wrapped = [_WRAPPED_LINE.fullmatch(line) for line in lines[:5]]
    return len(wrapped) > 1 and all(wrapped) and len({match[1] for match in wrapped if match}) == 1


def _head(file: Path, key: str) -> bytes:
    if file.is_dir():
        raise DataError(f"{key}: {file} is a folder: name a file in it")
    try:
        with file.open("rb") as stream:
            return head_of(stream)
    except FileNotFoundError:
        raise DataError(f"{key}: {file} does not exist (relative paths start at the repository's root)") from None
    except (*DAMAGE, OSError) as error:
        what = damage(error)
        if what is None and isinstance(error, OSError):
            raise DataError(f"{key}: {file} cannot be read ({error.strerror or error})") from None
        raise DataError(f"{key}: {file}: the compressed file is {what}; replace it by a whole copy") from None


def _decoded(head: bytes) -> str:
    encoding = "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    return head.decode(encoding, "replace")


def _root(text: str) -> str | None:
    """The name of the first element behind an XML prolog."""
    position = 0
    while prolog := _PROLOG.match(text, position):
        position = prolog.end()
    tag = _TAG.match(text.lstrip() if position == 0 else text[position:].lstrip())
    return tag[1].rpartition(":")[2].lower() if tag else None
