"""The registered model by MLflow's means: it translates as `transformer translate`, and serves over HTTP."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from prefect_server import free_port, until
from tiny_inputs import CHECKOUT
from tiny_model import sentence, write_uneven_model

from flows.tracking.spool import Spool
from flows.tracking.translator_model import TranslatorModel
from transformer.files import sha256_of

LINES = [sentence(1, 5), "", "the kitchen &amp; the hall", sentence(2, 60)]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_uneven_model(tmp_path / "model")


def translated(model: Path) -> list[str]:
    """What `transformer translate` prints."""
    command = [sys.executable, "-m", "transformer", "translate", "--model", str(model)]
    done = subprocess.run(command, input="\n".join(LINES), cwd=CHECKOUT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def loaded(model: Path, sha256: str) -> TranslatorModel:
    translator = TranslatorModel()
    registered = model.parent / "registered.sha256"
    registered.write_text(sha256)
    translator.load_context(SimpleNamespace(artifacts={"model": str(model), "sha256": str(registered)}))
    return translator


def test_it_translates_as_the_command_and_only_what_was_registered(model: Path) -> None:
    sha256 = sha256_of(model)
    translator = loaded(model, sha256)
    assert translator.predict(pd.DataFrame(LINES)) == translated(model)
    with pytest.raises(MlflowException, match="line 1 is no text"):
        translator.predict(pd.DataFrame({"source": ["the", None]}))
    with (model / "decoding.json").open("a") as stream:
        stream.write(" ")
    with pytest.raises(MlflowException, match=f"not {sha256[:12]} as when it was registered"):
        loaded(model, sha256)


def delivered(folder: Path, model: Path) -> str:
    """Register it as average does, in a process that has no torch; returns the tracking URI."""
    uri = f"sqlite:///{folder}/mlflow.db"
    spool = Spool.create(folder / "tracking", "average")
    spool.start(uri=uri, experiment="e", name="average", tags={}, params={})
    spool.keep(model, "model")
    spool.keep(CHECKOUT / "transformer", "code/transformer")
    spool.append("model", name="transformer-en-de", sha256=sha256_of(model))
    spool.append("end", status="FINISHED")
    program = (
        "import sys\nfrom pathlib import Path\nfrom flows.tracking.delivery import Delivery\n"
        "from flows.tracking.spool import Spool\n"
        f"assert Delivery(Spool(Path({str(spool.folder)!r}))).advance() is None\n"
        "assert 'torch' not in sys.modules\n"
    )
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment, check=True)
    client = mlflow.MlflowClient(tracking_uri=uri)
    run_id = client.get_model_version("transformer-en-de", "1").run_id
    assert client.get_run(run_id).data.params == {}  # nothing that the stage's record does not say
    client.set_registered_model_alias("transformer-en-de", "champion", "1")
    return uri


class Server:
    """`mlflow models serve` of the champion."""

    def __init__(self, uri: str, folder: Path) -> None:
        self.port, self.log = free_port(), folder / "served.txt"
        command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
        command += ["-m", "models:/transformer-en-de@champion", "-p", str(self.port), "-h", "127.0.0.1"]
        environment = os.environ | {
            "MLFLOW_TRACKING_URI": uri,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": "",
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ping").status == 200
        except OSError:
            return False

    def ask(self, body: dict[str, Any]) -> tuple[int, Any]:
        data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/invocations", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.mark.slow
def test_the_champion_is_served_by_mlflow_and_a_changed_one_is_not(
    model: Path, tmp_path: Path, empty_store: Path
) -> None:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    uri, expected = delivered(tmp_path, model), {"predictions": translated(model)}
    server = Server(uri, tmp_path)
    try:
        until(server.ready, seconds=120, what="mlflow models serve")
        assert server.ask({"inputs": LINES}) == (200, expected)
        rows = [[line] for line in LINES]
        assert server.ask({"dataframe_split": {"columns": ["source"], "data": rows}}) == (200, expected)
        assert server.ask({"dataframe_records": [{"source": line} for line in LINES]}) == (200, expected)
        status, told = server.ask({"dataframe_split": {"columns": ["source"], "data": [["the"], [None]]}})
        assert (status, "line 1 is no text" in told["message"]) == (400, True)
    finally:
        server.end()
    (weights,) = (tmp_path / "mlartifacts").rglob("model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.unlink()  # hard-linked from the model folder
    weights.write_bytes(content)
    changed = Server(uri, tmp_path)
    try:
        assert changed.process.wait(60) != 0
    finally:
        changed.end()
    assert "as when it was registered" in changed.log.read_text()
