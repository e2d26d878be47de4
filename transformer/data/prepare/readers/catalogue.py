"""Catalogues of interface texts: a JSON file for each component and language in a zip archive."""

import json
import re
import zipfile
from collections.abc import Iterator
from typing import Any

from transformer.data.compression import ARCHIVE_ERRORS
from transformer.data.prepare.readers.files import Pair, PartFiles, RawFile

Key = tuple[str, ...]  # where a string is in a catalogue, from the top


def read_catalogue_pairs(files: PartFiles) -> Iterator[Pair]:
    """The strings under the same key of the same component's two files; origin is "<part>/<top-level key>".

    Components in the order of their member names, keys in the order of the source file. A key or a component that
    only one language has makes no pair.

    Raises:
        DataError: damaged zip, a member that is not UTF-8 JSON, no member of a language.
    """
    part, raw = files.part, files.source
    try:
        with zipfile.ZipFile(raw.path) as archive:
            for source_member, target_member in _components(archive, files):
                sources = _strings(archive, raw, source_member)
                targets = _strings(archive, raw, target_member)
                raw.advance(sum(archive.getinfo(member).compress_size for member in (source_member, target_member)))
                for key, source in sources.items():
                    if key in targets:
                        yield Pair(source, targets[key], f"{part.name}/{key[0]}")
    except ARCHIVE_ERRORS as error:
        raise raw.damaged(f"a damaged zip file ({error})") from None
    except OSError as error:
        raise raw.unreadable(error) from None


def _components(archive: zipfile.ZipFile, files: PartFiles) -> list[tuple[str, str]]:
    """Member names (source, target) of the components that have both languages."""
    part = files.part
    sources, targets = (_members(archive, pattern) for pattern in (part.source_field, part.target_field))
    for members, pattern in ((sources, part.source_field), (targets, part.target_field)):
        if not members:
            raise files.source.malformed(f"no member matches {pattern}: is the language right?")
    return [(name, targets[stars]) for stars, name in sorted(sources.items()) if stars in targets]


def _members(archive: zipfile.ZipFile, pattern: str) -> dict[Key, str]:
    """Member names that match `pattern`, by what its stars match."""
    expression = re.compile("(.*)".join(map(re.escape, pattern.split("*"))))
    found = ((expression.fullmatch(name), name) for name in archive.namelist())
    return {match.groups(): name for match, name in found if match}


def _strings(archive: zipfile.ZipFile, raw: RawFile, member: str) -> dict[Key, str]:
    """All string leaves of a JSON member by their keys from the top."""
    try:
        strings = dict(_leaves(json.loads(archive.read(member).decode("utf-8-sig")), ()))
        for text in strings.values():
            text.encode("utf-8")  # JSON can spell half a surrogate pair, which is not a character
    except ARCHIVE_ERRORS as error:  # ValueError: of JSON and UTF-8; RuntimeError: of endless nesting
        raise raw.malformed(f"member {member}: not UTF-8 JSON ({' '.join(str(error).split())})") from None
    return strings


def _leaves(node: Any, key: Key) -> Iterator[tuple[Key, str]]:
    if isinstance(node, str):
        yield key or ("",), node
    elif isinstance(node, dict | list):
        for step, child in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _leaves(child, (*key, str(step)))
