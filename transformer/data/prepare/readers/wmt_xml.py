"""WMT's XML test sets since 2021: in each document a source, references of several translators, system outputs."""

from collections.abc import Iterator

from transformer.data.prepare.readers.files import Pair, PartFiles, RawFile
from transformer.data.prepare.readers.markup import SPELL, Element, local_name, plain_text, read_units, speaks

Segments = dict[str, str]  # id -> text


def read_wmt_xml_pairs(files: PartFiles) -> Iterator[Pair]:
    """Each segment of the source with those of the same number in the references.

    Of several references the first is the pair's target and the others are further ones.

    Raises:
        DataError: as in `read_units`, no document in the languages, a reference with other segments.
    """
    part, raw = files.part, files.source
    languages, found = set[str](), False
    for document in read_units(raw, ["dataset"], ["doc"]):
        sides = [side for side in document if local_name(side) in ("src", "ref")]
        languages |= {f"{local_name(side)} {side.get('lang')}" for side in sides}
        sources, targets = (
            [side for side in sides if speaks(side.get("lang"), wanted)]
            for wanted in (part.source_field, part.target_field)
        )
        if sources and targets:
            found = True
            yield from _pairs(files, sources[0], targets)
    if not found:
        raise raw.malformed(
            f"no document has both {part.source_field} and {part.target_field}; it has "
            f"{', '.join(sorted(languages)) or 'none'}",
            setting=SPELL,
        )


def _pairs(files: PartFiles, source: Element, targets: list[Element]) -> Iterator[Pair]:
    texts, references = _segments(files.source, source), [_segments(files.source, target) for target in targets]
    for target, reference in zip(targets, references, strict=True):
        if differing := texts.keys() ^ reference.keys():
            raise files.source.malformed(
                f"source and reference {target.get('translator', '')} differ in segment {min(differing)}",
                target.sourceline,
            )
    for number, text in texts.items():
        first, *further = (reference[number] for reference in references)
        yield Pair(text, first, files.part.name, tuple(further))


def _segments(raw: RawFile, side: Element) -> Segments:
    segments: Segments = {}
    for segment in side.iter("{*}seg"):
        number = segment.get("id")
        if number is None or number in segments:
            how = "without id" if number is None else f"{number} is there twice"
            raise raw.malformed(f"a segment {how}" if number is None else f"segment {how}", segment.sourceline)
        segments[number] = plain_text(raw, segment, ()).strip()
    return segments
