"""The tiny corpus as a published one: a tar archive and two plain files, to be fetched over HTTP from a mirror."""

import gzip
import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import yaml
from tiny_inputs import TINY_PARAMS, synthetic_pairs

HOST = "corpora.test"  # does not exist: TRANSFORMER_MIRROR names the server that has its files
LANGUAGES = ("en", "de")


def _text(rows: list[tuple[str, str]], side: int) -> bytes:
    return "".join(f"{row[side]}\n" for row in rows).encode()


def published_files() -> dict[str, bytes]:
    """What the host offers, by name: train.tgz with a member a language, and the test set as plain files."""
    pairs = synthetic_pairs(460)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for split, rows in {"train": pairs[:400], "valid": pairs[400:430]}.items():
            for side, language in enumerate(LANGUAGES):
                content = _text(rows, side)
                entry = tarfile.TarInfo(f"{split}.{language}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    plain = {f"test.{language}": _text(pairs[430:], side) for side, language in enumerate(LANGUAGES)}
    return {"train.tgz": gzip.compress(packed.getvalue(), 1, mtime=0), **plain}


def write_published_corpus(workspace: Path) -> Path:
    """Have the registry name the published corpus; returns a mirror folder that holds its files.

    Params are those of the tiny corpus, with chunks so small that `prepare` has several.
    """
    files = published_files()
    mirror = workspace.parent / "mirror"
    (mirror / HOST).mkdir(parents=True)
    for name, content in files.items():
        (mirror / HOST / name).write_bytes(content)
    sources = {
        name: {"url": f"http://{HOST}/{name}", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
    }
    packed = {"format": "lines", "archive": "train.tgz"}
    entry: dict[str, Any] = {
        "licence": "none",
        "citation": "none",
        "languages": list(LANGUAGES),
        "files": sources,
        "parts": [
            {"name": "tiny-train", "split": "train", **packed, "file": "train.{language}"},
            {"name": "tiny-valid", "split": "valid", **packed, "file": "valid.{language}"},
            {"name": "tiny-test", "split": "test", "format": "lines", "file": "test.{language}"},
        ],
    }
    (workspace / "data" / "corpora.yaml").write_text(yaml.safe_dump({"tiny": entry}, sort_keys=False))
    preparation = {**TINY_PARAMS["preparation"], "batch_pairs": 60}
    (workspace / "params.yaml").write_text(
        yaml.safe_dump({**TINY_PARAMS, "preparation": preparation}, sort_keys=False)
    )
    return mirror
