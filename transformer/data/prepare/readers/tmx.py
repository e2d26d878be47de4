"""TMX: translation memories, each unit (`tu`) with a variant (`tuv`) for each of its languages."""

from collections.abc import Iterator

from transformer.data.prepare.readers.files import Pair, PartFiles, RawFile
from transformer.data.prepare.readers.markup import (
    LANGUAGE,
    SPELL,
    Element,
    local_name,
    plain_text,
    read_units,
    speaks,
)

CODES = ("bpt", "ept", "it", "ph", "ut")  # native codes; <hi> holds text


def read_tmx_pairs(files: PartFiles) -> Iterator[Pair]:
    """The segments of the two languages of each unit; units that lack one are left out and counted.

    Raises:
        DataError: as in `read_units`, or no unit has the languages.
    """
    part, raw = files.part, files.source
    languages, found = set[str](), False
    for unit in read_units(raw, ["tmx"], ["tu"]):
        segments: dict[str, Element] = {}
        for language, segment in _segments(unit):
            segments.setdefault(language, segment)
        languages |= segments.keys()
        source, target = (_text(raw, segments, wanted) for wanted in (part.source_field, part.target_field))
        if source and target:
            found = True
            yield Pair(source, target, part.name)
        else:
            files.left_out["untranslated"] += 1
    if not found:
        raise raw.malformed(
            f"no unit has both {part.source_field} and {part.target_field}; its languages are "
            f"{', '.join(sorted(languages)) or 'none'}",
            setting=SPELL,
        )


def _segments(unit: Element) -> Iterator[tuple[str, Element]]:
    for variant in unit:
        if local_name(variant) == "tuv":
            language = variant.get(LANGUAGE) or variant.get("lang") or "unknown"
            yield from ((language, child) for child in variant if local_name(child) == "seg")


def _text(raw: RawFile, segments: dict[str, Element], wanted: str) -> str:
    """The text in the wanted language, spelled exactly so if several fit; "" where there is none."""
    fitting = [language for language in segments if speaks(language, wanted)]
    exact = [language for language in fitting if len(language) == len(wanted)]
    chosen = (exact or fitting)[:1]
    return plain_text(raw, segments[chosen[0]], CODES).strip() if chosen else ""
