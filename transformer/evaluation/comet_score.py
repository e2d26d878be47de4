"""COMET from a local checkpoint, computed by a Python of its own.

`unbabel-comet` 2.2 wants numpy below 2 and protobuf below 5, which this project cannot have beside MLflow and pandas;
so it lives in another environment, which gets the sentences as JSON and answers with the scores. Nothing is
downloaded: the checkpoint and the encoder that it builds on have to be on this machine.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from transformer.errors import DataError, ParamsError
from transformer.files import sha256_of
from transformer.params import EvaluationParams

# Run by the other Python, which knows nothing of this package.
PROGRAM = """
import contextlib, importlib.metadata, json, sys
job = json.load(sys.stdin)
with contextlib.redirect_stdout(sys.stderr):
    from comet import load_from_checkpoint
    model = load_from_checkpoint(job["checkpoint"], local_files_only=True)
    found = model.predict(job["samples"], batch_size=16, gpus=job["gpus"], progress_bar=False)
    version = importlib.metadata.version("unbabel-comet")
json.dump({"score": float(found.system_score), "version": version}, sys.stdout)
"""
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


@dataclass(frozen=True)
class CometScore:
    """The mean score of a test set (not a percentage), and what computed it."""

    value: float
    signature: str


def check_comet(evaluation: EvaluationParams) -> None:
    """See that the checkpoint and the Python that `evaluation` names are there.

    Raises:
        ParamsError: one is not, or only one of them is named.
    """
    checkpoint, python = evaluation.comet_checkpoint, evaluation.comet_python
    if python and not checkpoint:
        raise ParamsError("evaluation.comet_python is given, but evaluation.comet_checkpoint is null")
    for key, path in (("comet_checkpoint", checkpoint), ("comet_python", python)):
        if path and not Path(path).expanduser().is_file():
            raise ParamsError(f"evaluation.{key} = {path!r}: there is no such file")
    if python and not os.access(Path(python).expanduser(), os.X_OK):
        raise ParamsError(f"evaluation.comet_python = {python!r}: it is no program")
    if checkpoint and not python and find_spec("comet") is None:
        raise ParamsError("evaluation.comet_python = None: unbabel-comet is not here; name a Python that has it")


def comet_score(
    sources: list[str], hypotheses: list[str], references: list[str], evaluation: EvaluationParams, on_gpu: bool
) -> CometScore:
    """Score aligned sentences with the checkpoint that `evaluation` names.

    Raises:
        DataError: the other Python failed; with its last line.
    """
    assert evaluation.comet_checkpoint is not None
    checkpoint = Path(evaluation.comet_checkpoint).expanduser().resolve()
    rows = zip(sources, hypotheses, references, strict=True)
    samples = [{"src": source, "mt": hypothesis, "ref": reference} for source, hypothesis, reference in rows]
    job = {"checkpoint": str(checkpoint), "samples": samples, "gpus": int(on_gpu)}
    # Made absolute, but not resolved: a virtual environment's Python is a link, and knows itself by its name.
    python = os.path.abspath(os.path.expanduser(evaluation.comet_python or sys.executable))
    with tempfile.TemporaryDirectory() as elsewhere:  # so that no file of the working folder is taken for a package
        done = subprocess.run(
            [python, "-c", PROGRAM],
            input=json.dumps(job),
            cwd=elsewhere,
            env={**os.environ, **OFFLINE},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DataError(
            f"COMET failed in {python}: {why}; evaluation.comet_python names a Python with unbabel-comet, made with "
            "python -m venv .venv-comet && .venv-comet/bin/pip install unbabel-comet"
        )
    found = json.loads(done.stdout)
    signature = f"model:{checkpoint.name}|sha256:{sha256_of(checkpoint)}|version:{found['version']}"
    return CometScore(float(found["score"]), signature)
