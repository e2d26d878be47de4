"""The user's own corpora: files on this machine, copied into the raw folder."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from transformer.data.download.archive import require_space
from transformer.data.download.registry import LocalCorpus, format_of
from transformer.data.parts import Part, Split
from transformer.errors import DataError
from transformer.files import atomic_path
from transformer.languages import LanguageParams

SPLITS: dict[str, Split | None] = {"train": "train", "valid": "valid", "test": "test", "all": None}


def local_parts(name: str, corpus: LocalCorpus, languages: LanguageParams) -> Iterator[tuple[Part, dict[str, Path]]]:
    """Each part of the corpus, with the user's file behind each path that the part names.

    Relative paths start at the working directory, which is the repository's root in every stage.
    """
    pair = (languages.source, languages.target)
    for split, sides in corpus.local.items():
        if "file" in sides:
            file = Path(str(sides["file"])).expanduser()
            paths = [f"{name}/{split}{''.join(_suffixes(file))}"] * 2
            behind = {paths[0]: file}
            fields = [str(sides[language]) for language in pair]
        else:
            files = [Path(str(sides[language])).expanduser() for language in pair]
            paths = [f"{name}/{split}.{one}{''.join(_suffixes(file))}" for one, file in zip(pair, files, strict=True)]
            behind = dict(zip(paths, files, strict=True))
            fields = ["", ""]
        part = Part(
            corpus=name,
            name=f"{name}-{split}",
            split=SPLITS[split],
            format=format_of(paths[0]),
            source=paths[0],
            target=paths[1],
            source_language=pair[0],
            target_language=pair[1],
            source_field=fields[0],
            target_field=fields[1],
        )
        yield part, behind


def _suffixes(file: Path) -> list[str]:
    """The end of a file's name that tells its format; a side's `.src` or `.tgt` is not part of it."""
    return [suffix for suffix in file.suffixes[-2:] if suffix in (".tsv", ".sgm", ".parquet", ".gz")]


def copy_local(file: Path, target: Path, key: str) -> None:
    """Copy a user's file into the raw folder. Never a link: DVC makes what lies there read-only.

    Raises:
        DataError: the file is missing; `key` names it in the registry.
        DownloadError: the disk is too full.
    """
    if not file.is_file():
        raise DataError(f"{key}: {file} does not exist (relative paths start at the repository's root)")
    target.parent.mkdir(parents=True, exist_ok=True)
    require_space(target.parent, file.stat().st_size, file.name)
    with atomic_path(target) as temporary:
        shutil.copyfile(file, temporary)
