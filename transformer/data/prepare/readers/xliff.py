"""XLIFF 1.2 and 2: what localisation tools exchange, units with a state."""

from collections.abc import Iterator

from transformer.data.prepare.readers.files import Pair, PartFiles, RawFile
from transformer.data.prepare.readers.markup import SPELL, Element, local_name, plain_text, read_units, speaks

CODES = ("bpt", "ept", "it", "ph", "x", "bx", "ex", "sc", "ec", "sm", "em")  # <g>, <mrk> and <pc> hold text
# XLIFF 1.2 and, for `initial`, 2.
UNTRANSLATED_STATES = {"new", "needs-translation", "initial"}
FUZZY_STATES = {
    "needs-adaptation", "needs-l10n", "needs-review-adaptation", "needs-review-l10n", "needs-review-translation",
}  # fmt: skip


def read_xliff_pairs(files: PartFiles) -> Iterator[Pair]:
    """Source and target of each unit (1.2) or segment (2), in either direction.

    Units without a translation, or whose state says that it is none yet (`fuzzy`), are left out and counted.

    Raises:
        DataError: as in `read_units`, or other languages.
    """
    raw, part = files.source, files.part
    for unit in read_units(raw, ["xliff"], ["trans-unit", "unit"]):
        swapped = _is_swapped(files, unit)
        for holder in [unit] if local_name(unit) == "trans-unit" else _children(unit, "segment"):
            source, target = (_text(raw, holder, name) for name in ("source", "target"))
            if reason := _reason_against(holder, source, target):
                files.left_out[reason] += 1
            else:
                yield Pair(target, source, part.name) if swapped else Pair(source, target, part.name)


def _children(element: Element, name: str) -> list[Element]:
    return [child for child in element if local_name(child) == name]


def _text(raw: RawFile, holder: Element, name: str) -> str:
    return "".join(plain_text(raw, child, CODES) for child in _children(holder, name)[:1]).strip()


def _reason_against(holder: Element, source: str, target: str) -> str | None:
    states = {one.get("state") for one in (holder, *_children(holder, "target"))}
    if not (source and target) or states & UNTRANSLATED_STATES:
        return "untranslated"
    if (approved := holder.get("approved")) == "yes":
        return None
    unapproved = approved == "no" and states == {None}  # how tools without states mark what is fuzzy
    return "fuzzy" if unapproved or states & FUZZY_STATES else None


def _is_swapped(files: PartFiles, unit: Element) -> bool:
    """Whether the file's target is the wanted source. The target's language may be missing, as in a new file.

    Raises:
        DataError: the file is in other languages.
    """
    wanted = (files.part.source_field, files.part.target_field)
    names = {"source-language": 0, "srcLang": 0, "target-language": 1, "trgLang": 1}
    found: list[str | None] = [None, None]
    for ancestor in unit.iterancestors():
        for name, side in names.items():
            found[side] = found[side] or ancestor.get(name)
    for swapped, (source, target) in enumerate((wanted, wanted[::-1])):
        if all(have is None or speaks(have, want) for have, want in zip(found, (source, target), strict=True)):
            return bool(swapped)
    raise files.source.malformed(
        f"it is {found[0]}-{found[1]}, not {wanted[0]}-{wanted[1]}", unit.sourceline, setting=SPELL
    )
