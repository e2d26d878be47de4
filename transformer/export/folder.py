"""An export is written: whole or not there, never in place of what is none, with its origin and its hashes."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformer.errors import DataError, ParamsError
from transformer.export.origin import ORIGIN_FILE, Origin
from transformer.files import files_below, sha256_of, sync, sync_folder, write_json, write_text
from transformer.model.folder import LIST_FILE, ModelConfig, file_hashes, read_config
from transformer.params import DECODING_FILE, ExportFormat, ModelParams
from transformer.tokens.vocabulary import VOCABULARY_FILE

CARD_FILE = "model_card.md"


def origin_of(model: Path, to: ExportFormat, quantization: str | None) -> Origin:
    """What an export of the model folder says of itself.

    Raises:
        DataError: the model folder is incomplete or malformed.
    """
    config = read_config(model)
    return Origin(
        to=to,
        quantization=quantization,
        languages=config.languages,
        max_positions=config.model.max_positions,
        model=file_hashes(model),
        averaged=_averaged(model),
    )


def check_network(params: ModelParams, name: str) -> None:
    """ParamsError if the format of this name has no such network."""
    if params.d_k != params.d_v:
        raise ParamsError(
            f"{name} has no keys of another size than d_model / heads = {params.d_v}; this model's model.key_size is "
            f"{params.key_size}"
        )


@contextmanager
def export_folder(path: Path, model: Path, origin: Origin, use: str) -> Iterator[Path]:
    """Yield a folder beside `path`, which takes the place of `path` when all that belongs to an export is in it.

    The vocabulary and the search settings of the model folder are put in at the start, a model card, which tells how
    to `use` it, and the origin at the end.

    Raises:
        DataError: `path` is there and is no export, so it is left alone.
    """
    if path.exists() and not (path / ORIGIN_FILE).is_file():
        raise DataError(f"{path} is there, and is no earlier export: remove it, or name another folder with --out")
    new, old = (path.with_name(f".{path.name}.{os.getpid()}.{what}.tmp") for what in ("new", "old"))
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        for name in (VOCABULARY_FILE, DECODING_FILE):
            shutil.copyfile(model / name, new / name)
        yield new
        write_text(new / CARD_FILE, _card(model, read_config(model), origin, use))
        hashes = {file.relative_to(new).as_posix(): sha256_of(file) for file in files_below(new)}
        write_json(new / ORIGIN_FILE, origin.model_copy(update={"files": hashes}).model_dump())
        _synced(new)
        if path.exists():
            path.rename(old)
        new.rename(path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        if old.exists() and not path.exists():  # stopped between the two renames
            old.rename(path)
        shutil.rmtree(old, ignore_errors=True)


def _synced(folder: Path) -> None:
    for file in files_below(folder):
        with file.open("rb") as stream:
            sync(stream.fileno())
    sync_folder(folder)


def _averaged(model: Path) -> dict[str, Any]:
    """What averaged.json says but for the hashes; it has been read once, when the model was loaded."""
    path = model / LIST_FILE
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {name: value for name, value in content.items() if name != "files"}


def _card(model: Path, config: ModelConfig, origin: Origin, use: str) -> str:
    """What the export is, and below that what the model's own card tells of it, if it has one."""
    own = model / CARD_FILE
    text = own.read_text(encoding="utf-8") if own.is_file() else ""
    told = text.partition("\n")[2].partition("Translate with")[0].strip()  # how is another matter here
    weights = origin.quantization or "float32"
    files = "\n".join(f"| {name} | `{sha256}` |" for name, sha256 in origin.model.items())
    return f"""# Translation model {config.languages.source} → {config.languages.target}, for {origin.to}

Exported with {weights} weights from the model folder whose files are below; {ORIGIN_FILE} has the hashes of the files
here. Text is to be cleaned as `transformer translate` does it: Unicode NFC, one space between words.

{use.strip()}

| of the model folder | sha256 |
|---|---|
{files}

## The model

{told}
"""
