"""What params.yaml chooses from the corpus registry: corpora, languages, test sets; every stage checks it first."""

from collections.abc import Collection, Mapping
from pathlib import Path

from transformer.data.download.corpora import Corpus, Entry, LocalCorpus, load_corpora
from transformer.data.download.local import SPLITS, local_parts
from transformer.data.parts import Split
from transformer.errors import ParamsError
from transformer.languages import spelling_of
from transformer.params import DownloadParams, LanguageParams, Params
from transformer.section import did_you_mean


def check_choice(params: Params, path: Path, entries: dict[str, Entry] | None = None) -> None:
    """Refuse corpora, languages and test sets that the registry `path` does not have.

    `entries` are what it holds; default: what is there now.

    Raises:
        ParamsError: one line that names the key, the value and what there is.
    """
    entries = load_corpora(path) if entries is None else entries
    chosen = chosen_corpora(params.download, params.languages, entries, path)
    parts = [(name, split) for corpus, entry in chosen.items() for name, split in _parts(corpus, entry)]
    _check_splits(params.download.corpora, parts)
    # Without an official test set it is drawn from train, unless a part without a split brings its own.
    drawn_from = None if {"test", None} & {split for _, split in parts} else "train"
    names = [name for name, split in parts if split in ("test", None, drawn_from)]
    for name in params.evaluation.test_sets:
        if name not in names:
            raise ParamsError(
                f"evaluation.test_sets: {', '.join(params.download.corpora)} has no test set {name!r}; "
                f"there are {', '.join(names)}{did_you_mean(name, names)}"
            )


def chosen_corpora(
    params: DownloadParams, languages: LanguageParams, entries: dict[str, Entry], path: Path
) -> dict[str, Entry]:
    """The entries of the chosen corpora; `path` names the registry in errors.

    Raises:
        ParamsError: unknown corpus or language.
    """
    for name in params.corpora:
        if name not in entries:
            raise ParamsError(
                f"download.corpora: {path} has no corpus {name!r}; it has {', '.join(entries)}"
                f"{did_you_mean(name, entries)}"
            )
        entry = entries[name]
        spelled(name, entry, languages)
    return {name: entries[name] for name in params.corpora}


def check_local_files(chosen: Mapping[str, Entry], languages: LanguageParams, path: Path) -> None:
    """See that the user's own files are there and are what their entries say; `path` names the registry in errors.

    Raises:
        ParamsError, DataError: as of `transformer.data.download.local.local_parts`.
    """
    for name, entry in chosen.items():
        if isinstance(entry, LocalCorpus):
            local_parts(name, entry, spelled(name, entry, languages), f"{path}: {name}")


def spelled(name: str, entry: Entry, languages: LanguageParams) -> LanguageParams:
    """The language pair as the corpus `name` spells it; unchanged for a catalogue, whose members tell what it has.

    Raises:
        ParamsError: as of `spelled_among`.
    """
    if isinstance(entry, Corpus) and not entry.languages:
        return languages
    return spelled_among(name, entry.languages, languages)


def spelled_among(name: str, available: Collection[str], languages: LanguageParams) -> LanguageParams:
    """The pair as the corpus `name` spells it: `zh_CN` where that is one of its languages, else `zh-Hans`.

    Raises:
        ParamsError: the corpus does not have a language; names the key and what there is.
    """
    found = {}
    for key, language in (("source", languages.source), ("target", languages.target)):
        spelling = spelling_of(language, available)
        if spelling is None:
            raise ParamsError(
                f"languages.{key} = {language!r}: corpus {name} has {', '.join(available) or 'none in all splits'}"
                f"{did_you_mean(language, available)}"
            )
        found[key] = spelling
    return LanguageParams(**found)


def _parts(corpus: str, entry: Entry) -> list[tuple[str, Split | None]]:
    """Name and official split of each part of a corpus."""
    if isinstance(entry, Corpus):
        return [(part.name, part.split) for part in entry.parts]
    return [(f"{corpus}-{split}", SPLITS[split]) for split in entry.local]


def _check_splits(corpora: list[str], parts: list[tuple[str, Split | None]]) -> None:
    if not {split for _, split in parts} & {"train", None}:
        raise ParamsError(f"download.corpora = {corpora}: none of them has a part with split train, or without one")
