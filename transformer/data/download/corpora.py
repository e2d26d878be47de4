"""The corpus registry (data/corpora.yaml): where each corpus comes from and which file is which side."""

import re
import sys
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator

from transformer.data.download.recognition import format_by_name
from transformer.data.parts import BlankLines, Format, Split
from transformer.errors import ParamsError
from transformer.section import Section, in_words
from transformer.yaml12 import InvalidYamlError, parse_yaml

SIDES = ("src", "ref")  # what {side} stands for: the source language, the target language


class SourceFile(Section):
    """One file to fetch, with the hash that proves it to be the right one."""

    url: str | None = Field(default=None, pattern=r"^https?://[^/?#\s@]+/[^#\s]+$")
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
    `columns` says for each language where it is in a file that holds both sides.
    """

    name: str = Field(pattern=r"^[\w.-]+$")
    split: Split | None = None  # absent: no official split
    format: Format
    file: str
    archive: str | None = None
    member: str = ""  # catalogue: pattern of the zip members of one {language}
    columns: dict[str, str | int] = Field(default={})
    width: int | None = Field(default=None, ge=2)  # as in Part
    blank_lines: BlankLines | None = None

    @model_validator(mode="after")
    def _stays_in_its_folder(self) -> "PartEntry":
        path = PurePosixPath(self.file)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError("file must be a relative path without '..'")
        if (self.format == "catalogue") != ("{language}" in self.member):
            raise ValueError("a catalogue, and nothing else, needs a member pattern with {language}")
        if self.columns and self.format == "catalogue":
            raise ValueError("a catalogue has no columns, but a member pattern")
        if self.path("", "") != self.file and (self.columns or self.format in NEED_COLUMNS + LANGUAGES_OF_ITS_OWN):
            raise ValueError(f"file holds both sides, so its name has no {{language}} or {{side}}: {self.file}")
        check_blank_lines("blank_lines", self.format, self.blank_lines)
        return self

    def path(self, language: str, side: str) -> str:
        """The file or member that holds `language` as `side` (`src` or `ref`)."""
        return self.file.replace("{language}", language).replace("{side}", side)

    def places(self, languages: list[str]) -> "Places":
        """Where each of the languages is in the part's file; empty for a file a side."""
        if self.format == "catalogue":
            return {language: self.member.replace("{language}", language) for language in languages}
        if self.format in FILE_A_SIDE or (self.format == "po" and not self.columns):
            return {}
        if self.format in LANGUAGES_OF_ITS_OWN:
            return {language: self.columns.get(language, language) for language in languages}
        return dict(self.columns)


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
            if part.columns or part.format in NEED_COLUMNS:
                missing = [one for one in self.languages if one not in part.columns]
                if missing and part.format not in LANGUAGES_OF_ITS_OWN:
                    raise ValueError(f"part {part.name}: columns does not say where {missing[0]} is")
                check_places(f"part {part.name}", part.format, part.places(self.languages), part.width)
            languages = self.languages or [""]
            needed = {part.path(language, side) for language in languages for side in SIDES}
            for file in [part.archive] if part.archive else sorted(needed):
                if file not in self.files:
                    raise ValueError(f"part {part.name} names {file}, which is not among files")
        if len({part.name for part in self.parts}) < len(self.parts):
            raise ValueError("parts must have different names")
        return self


class LocalSplit(Section):
    """The user's files of a split: for each language its file, or one `file` and for each language a place in it.

    The other keys are languages.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, str | int]

    file: str | None = None
    format: Format | None = None  # absent: by the content or the name of the file
    width: int | None = Field(default=None, ge=2)  # as in Part
    blank_lines: BlankLines | None = None

    @model_validator(mode="after")
    def _sides_fit(self) -> "LocalSplit":
        for language in self.sides:
            if not re.fullmatch(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]+)*", language):
                options = ", ".join(type(self).model_fields)
                raise ValueError(f"{language!r} is neither the code of a language nor one of {options}")
        if len(self.sides) < 2:
            raise ValueError("needs two languages, as in {en: train.src, de: train.tgt}")
        if self.format == "catalogue":
            raise ValueError("format: a catalogue is for published packages")
        if self.file is None:
            if any(type(path) is not str for path in self.sides.values()):
                raise ValueError(f"{self.sides}: a path for each language expected")
            if self.width:
                raise ValueError("width is for tsv with numbered columns")
        elif known := self.format or format_by_name(self.file):
            check_places(f"file = {self.file!r}", known, self.sides, self.width)
        return self

    @property
    def sides(self) -> dict[str, str | int]:
        """Languages and their files, or with `file` their places in it."""
        return self.__pydantic_extra__


class LocalCorpus(Section):
    """The user's own files. The split `all` stands for a corpus without official splits."""

    licence: str = "not stated"
    local: dict[Literal["train", "valid", "test", "all"], LocalSplit] = Field(min_length=1)

    @property
    def languages(self) -> list[str]:
        """The languages that every split has."""
        return sorted(set.intersection(*(set(split.sides) for split in self.local.values())))


Places = dict[str, str | int]  # language -> where a file that holds both sides has it
FILE_A_SIDE: tuple[Format, ...] = ("lines", "sgm")
LANGUAGES_OF_ITS_OWN: tuple[Format, ...] = ("tmx", "xliff", "wmt-xml")
NEED_COLUMNS: tuple[Format, ...] = ("tsv", "jsonl", "parquet")


def check_blank_lines(what: str, format_: Format, blank_lines: BlankLines | None) -> None:
    """See that the format has lines that can be blank; `what` begins the message.

    Raises:
        ValueError: it has none.
    """
    if blank_lines and format_ not in ("lines", "tsv", "jsonl"):
        raise ValueError(f"{what} = {blank_lines!r}: {format_} has no blank lines; lines, tsv and jsonl have")


def check_places(what: str, format_: Format, places: Places, width: int | None) -> None:
    """Check where a file that holds both sides is said to have each language; `what` begins the message.

    Raises:
        ValueError: one line that says what the format wants.
    """
    if format_ in FILE_A_SIDE:
        raise ValueError(
            f"{what}: {format_} has a file for each language, as in {{en: train.en, de: train.de}}; one file for "
            "both sides is tsv, jsonl, parquet, tmx, xliff, po or wmt-xml, which `format:` can say"
        )
    kinds = {type(place) for place in places.values()}
    shown = ", ".join(f"{language}: {place}" for language, place in places.items())
    allowed: list[set[type]] = [{str}]
    want = "the language as the file spells it"
    if format_ == "tsv":
        want, allowed = "column numbers from 0, or the names in the first line", [{int}, {str}]
    elif format_ in NEED_COLUMNS:
        want = "column names, nested ones with dots (translation.en)"
    elif format_ == "po":
        want = "msgid for one language and msgstr for the other"
    wrong = kinds not in allowed or (format_ == "po" and set(places.values()) != {"msgid", "msgstr"})
    if wrong or any(type(place) is int and not 0 <= place < (width or sys.maxsize) for place in places.values()):
        raise ValueError(f"{what}: {shown}: {want} expected{f', below width = {width}' if width else ''}")
    if len(set(places.values())) < len(places):
        raise ValueError(f"{what}: {shown}: two languages at the same place")
    if width and kinds != {int}:
        raise ValueError(f"{what}: width is for tsv with numbered columns")


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
        raise ParamsError(f"{origin}: {name!r} is not a corpus name: a to z, A to Z, digits, '-', '_' and '.' only")
    kind = LocalCorpus if isinstance(content, dict) and "local" in content else Corpus
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        words = in_words(error, lambda _: "the comment at the top of the file lists them", within=name)
        raise ParamsError(f"{origin}: {words}") from None
