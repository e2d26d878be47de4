"""The user's own files: which format each has, and its copy in the raw folder."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from transformer.data.download.archive import require_space
from transformer.data.download.corpora import (
    LANGUAGES_OF_ITS_OWN,
    LocalCorpus,
    LocalSplit,
    check_blank_lines,
    check_places,
)
from transformer.data.download.recognition import COMPRESSION_SUFFIXES, SUFFIXES, recognised_format
from transformer.data.parts import Format, Part, Split
from transformer.errors import ParamsError
from transformer.files import atomic_path
from transformer.params import LanguageParams

# What people have and no reader takes as it is, with the way to what is taken.
NOT_READ = {
    ".csv": "CSV is not read, as its quoting is no standard: save it as TSV, with tabs and without quotes",
    ".json": "say `format: jsonl` if it has an object a line; of a list: jq -c '.[]' FILE.json > FILE.jsonl",
}
SPLITS: dict[str, Split | None] = {"train": "train", "valid": "valid", "test": "test", "all": None}


def local_files(name: str, corpus: LocalCorpus, languages: LanguageParams) -> Iterator[tuple[str, Path]]:
    """Each of the user's files that the corpus needs and the path of its copy, relative to the raw folder.

    Relative paths start at the working directory, which is the repository's root in every stage.
    """
    for split, entry in corpus.local.items():
        yield from dict(zip(*_files(name, split, entry, languages), strict=True)).items()


def _files(name: str, split: str, entry: LocalSplit, languages: LanguageParams) -> tuple[list[str], list[Path]]:
    """Source and target: the paths of the copies, and the user's files."""
    if entry.file is not None:
        file = Path(entry.file).expanduser()
        return [f"{name}/{split}{_suffixes(file)}"] * 2, [file] * 2
    pair = (languages.source, languages.target)
    files = [Path(str(entry.sides[language])).expanduser() for language in pair]
    return [f"{name}/{split}.{one}{_suffixes(file)}" for one, file in zip(pair, files, strict=True)], files


def _suffixes(file: Path) -> str:
    """The end of a file's name that tells what it is; a side's `.src` or `.tgt` is not part of it."""
    compression = file.suffix if file.suffix.lower() in COMPRESSION_SUFFIXES else ""
    kind = Path(file.name.removesuffix(compression)).suffix
    return f"{kind if kind.lower() in (*SUFFIXES, '.xml') else ''}{compression}"


def local_parts(name: str, corpus: LocalCorpus, languages: LanguageParams, key: str) -> list[Part]:
    """The parts of the corpus, each file opened to see what it is; `key` says where the registry names the corpus.

    Raises:
        ParamsError: what the entry says does not fit the format of a file.
        DataError: a file is missing, unreadable or in no known format.
    """
    return [_part(name, split, entry, languages, f"{key}.local.{split}") for split, entry in corpus.local.items()]


def _part(name: str, split: str, entry: LocalSplit, languages: LanguageParams, key: str) -> Part:
    paths, files = _files(name, split, entry, languages)
    known = _format(entry, files, key)
    try:
        check_blank_lines("blank_lines", known, entry.blank_lines)
    except ValueError as error:
        raise ParamsError(f"{key}: {error}") from None
    pair = (languages.source, languages.target)
    fields = [entry.sides[language] for language in pair] if entry.file is not None else ["", ""]
    return Part(
        corpus=name,
        name=f"{name}-{split}",
        split=SPLITS[split],
        format=known,
        source=paths[0],
        target=paths[1],
        source_language=pair[0],
        target_language=pair[1],
        source_field=str(fields[0]),
        target_field=str(fields[1]),
        header=True if known == "tsv" and isinstance(fields[0], str) else None,
        width=entry.width,
        blank_lines=entry.blank_lines,
        source_from=str(files[0]),
        target_from=str(files[1]),
    )


def _format(entry: LocalSplit, files: list[Path], key: str) -> Format:
    found = [recognised_format(file, key, entry.format) for file in files]
    if entry.file is None:
        known = [one or "lines" for one in found]
        if known[0] != known[1]:
            raise ParamsError(
                f"{key}: {files[0]} is {known[0]} and {files[1]} is {known[1]}: both sides need one format"
            )
        if known[0] not in ("lines", "sgm", "po"):
            places = "" if known[0] in LANGUAGES_OF_ITS_OWN else " and says where each language is in it"
            raise ParamsError(
                f"{key}: {files[0]} is {known[0]}, which holds both sides: `file:` names it{places}; "
                "`format: lines` takes its lines as they are"
            )
        return known[0]
    by_number = all(type(place) is int for place in entry.sides.values())
    if (only := found[0] or ("tsv" if by_number else None)) is None:
        if cure := NOT_READ.get(files[0].suffix.lower()):
            raise ParamsError(f"{key}: {files[0]}: {cure}")
        raise ParamsError(
            f"{key}: neither name nor content of {files[0]} tells its format: say `format:` "
            f"({', '.join(sorted({*SUFFIXES.values(), 'wmt-xml'} - {'sgm'}))})"
        )
    try:
        check_places(f"{files[0]} is {only}", only, entry.sides, entry.width)
    except ValueError as error:
        raise ParamsError(f"{key}: {error}") from None
    return only


def copy_local(file: Path, target: Path) -> None:
    """Copy a user's file into the raw folder; a link would become read-only, as DVC makes everything there.

    Raises:
        DownloadError: the disk is too full.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    require_space(target.parent, file.stat().st_size, file.name)
    with atomic_path(target) as temporary:
        shutil.copyfile(file, temporary)
