"""Which exports there are, what they were made from, and whether they are whole; read without torch."""

from pathlib import Path
from typing import Any

from pydantic import Field

from transformer.errors import DataError, ParamsError
from transformer.files import sha256_of
from transformer.params import ExportFormat, LanguageParams
from transformer.section import Section

ORIGIN_FILE = "export.json"
OF_THE_STAGE = "export"  # the folder beside the model in which the stage `export` puts a folder for each format


class Origin(Section):
    """export.json: what was exported from what. Equal models, exported by equal versions, have equal ones."""

    to: ExportFormat
    quantization: str | None  # of the weights; None: float32, as the model folder's own
    languages: LanguageParams
    max_positions: int  # longest sentence in tokens, its end included
    model: dict[str, str]  # SHA-256 of each file of the model folder
    averaged: dict[str, Any]  # what the model folder's averaged.json says of the checkpoints that it was made from
    files: dict[str, str] = Field(default_factory=dict)  # SHA-256 of each file of the export but this one

    def is_of(self, model: Path) -> bool:
        """Whether this model folder has the files that were exported."""
        return all(
            (model / name).is_file() and sha256_of(model / name) == sha256 for name, sha256 in self.model.items()
        )


def default_folder(model: Path, to: ExportFormat) -> Path:
    """Where an export goes that is told no other place: beside the model folder."""
    folder = model.resolve()  # `.` has no name
    return model.parent / f"{folder.name}-{to}" if model.name == folder.name else Path(f"{folder}-{to}")


def exported_folder(model: Path, to: ExportFormat) -> Path:
    """The export of this model folder: itself one, beside it, or the one of the stage `export`.

    Raises:
        DataError: there is none, or the one that is there was made from another model.
    """
    if (model / ORIGIN_FILE).is_file():
        if (found := read_origin(model).to) != to:
            raise DataError(f"{model} is an export to {found}, not to {to}")
        return model
    places = export_places(model, to)
    there = [place for place in places if (place / ORIGIN_FILE).is_file()]
    make = f"transformer export {model} --to {to}"
    if not there:
        raise DataError(f"{places[0]} is missing: {make}")
    for place in there:
        if read_origin(place).is_of(model):
            return place
    raise DataError(f"{there[0]} was made from another model than the one in {model} now: {make}")


def export_places(model: Path, to: ExportFormat) -> tuple[Path, Path]:
    """Where an export of this model folder is looked for: beside it, then where the stage `export` writes."""
    return default_folder(model, to), model.resolve().parent / OF_THE_STAGE / to


def read_origin(folder: Path) -> Origin:
    """The checked export.json of an export.

    Raises:
        DataError: it is missing or malformed.
    """
    return Origin.read(folder / ORIGIN_FILE)


def check_export(folder: Path) -> Origin:
    """The origin of an export, all of its files compared with the hashes there.

    Raises:
        DataError: a file is missing or not as it was written.
    """
    origin = read_origin(folder)
    for name, expected in origin.files.items():
        if not (folder / name).is_file():
            raise DataError(f"{folder / name} is missing: export the model again")
        if (found := sha256_of(folder / name)) != expected:
            raise DataError(
                f"{folder / name} is damaged: written with sha256 {expected}, found {found}: export the model again"
            )
    return origin


def not_installed(package: str, extra: str) -> ParamsError:
    """What to do where a package is missing that this extra brings."""
    return ParamsError(f"{package} is not installed: pip install 'attention-pipeline[{extra}]', or {package} itself")
