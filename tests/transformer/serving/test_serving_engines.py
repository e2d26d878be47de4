"""Which engine serves a model, and what it says of that; requests that CTranslate2 can't answer."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser
from prefect_server import until
from served import JSON, Server
from tiny_model import sentence, write_uneven_model

from transformer.cli import main
from transformer.decoding.translator import Translator
from transformer.errors import DataError
from transformer.export.export import export
from transformer.serving import model as model_module
from transformer.serving.metrics import Metrics
from transformer.serving.model import WatchedModel, load_served

pytest.importorskip("ctranslate2")
LINES = [sentence(1, 4), "", sentence(2, 40), "light &amp; door"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With an export beside it."""
    folder = write_uneven_model(tmp_path_factory.mktemp("served") / "model")
    export(folder, "ctranslate2", folder.with_name("model-ctranslate2"))
    return folder


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    with Server(model) as server:
        yield server


def test_an_export_beside_the_model_translates_and_says_so(server: Server, model: Path) -> None:
    health = json.loads(server.send("GET", "/healthz")[1])
    told = f"{model}-ctranslate2 has float32 weights"
    assert (health["engine"], health["reason"], health["limits"]["details"]) == ("ctranslate2", told, 0)
    assert server.process.stdout is not None
    assert server.process.stdout.readline() == f"engine ctranslate2: {told}\n"
    answer = server.translate(LINES, nbest=2)
    with Server(model, "--engine", "torch") as ours:
        assert answer["translations"] == ours.translate(LINES)["translations"]
        health = json.loads(ours.send("GET", "/healthz")[1])
        assert (health["engine"], health["reason"]) == ("torch", "as asked for")
        assert ours.translate(LINES[:1], details=True)["nbest"][0][0]["details"]
    assert len(answer["nbest"][0]) == 2


def test_details_are_refused_with_the_reason(server: Server) -> None:
    body = json.dumps({"lines": LINES[:1], "details": True})
    status, told, _ = server.send("POST", "/translate", body, JSON)
    assert (status, "--engine torch" in json.loads(told)["detail"]) == (422, True)
    assert server.translate(LINES[:1])["translations"]


@pytest.mark.parametrize("broken", ["missing", "of another model", "damaged", "not installed", "--precision"])
def test_without_a_usable_export_our_own_search_serves(
    model: Path, tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, beside = tmp_path / "model", tmp_path / "model-ctranslate2"
    shutil.copytree(model, folder)
    if broken != "missing":
        shutil.copytree(f"{model}-ctranslate2", beside)
    reason = {"of another model": "made from another model", "--precision": "--precision is of the engine torch"}
    if broken == "of another model":
        with (folder / "decoding.json").open("a") as stream:
            stream.write("\n")
    if broken == "damaged":
        (beside / "model.bin").write_bytes(b"x")
    if broken == "not installed":
        monkeypatch.setitem(sys.modules, "ctranslate2", None)
    served = load_served(folder, precision="fp32" if broken == "--precision" else None)
    assert (served.engine_name, reason.get(broken, broken) in served.reason) == ("torch", True)
    assert "\n" not in served.reason
    found = served.engine.translate_nbest(LINES[:1], options=model_module.Options())
    assert found == Translator.load(folder, "cpu").translate_nbest(LINES[:1])
    if broken != "--precision":
        with pytest.raises(Exception, match=reason.get(broken, broken)):
            load_served(folder, engine="ctranslate2")


def test_an_export_alone_is_served_and_a_damaged_one_refused(model: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(f"{model}-ctranslate2", alone)
    served = load_served(alone)
    assert (served.engine_name, served.languages.target, served.beam) == ("ctranslate2", "de", 4)
    with pytest.raises(DataError, match="no model folder"):
        load_served(alone, engine="torch")
    (alone / "model.bin").write_bytes(b"x")
    with pytest.raises(DataError, match=r"model\.bin is damaged"):
        load_served(alone)


def test_an_export_that_comes_later_takes_over(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(model_module, "LOOK_SECONDS", 0.05)
    shutil.copytree(model, tmp_path / "model")
    watched = WatchedModel(tmp_path / "model", load_served, Metrics())
    assert watched.current.engine_name == "torch"
    watched.start()
    export(tmp_path / "model", "ctranslate2", tmp_path / "export" / "ctranslate2")
    until(lambda: watched.current.engine_name == "ctranslate2", what="the export")
    assert f"engine ctranslate2: {tmp_path}/export/ctranslate2 has float32 weights" in caplog.text
    shutil.rmtree(tmp_path / "export")
    until(lambda: watched.current.engine_name == "torch", what="our own search")
    watched.stop()


def test_precision_is_refused_with_the_engine_that_has_none(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(model), "--engine", "ctranslate2", "--precision", "fp32"]) == 2
    assert capsys.readouterr().err.startswith("transformer: --precision is of the engine torch")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_the_page_says_why_it_shows_no_attention(server: Server, tmp_path: Path) -> None:
    browser = Browser(tmp_path)
    try:
        browser.open(server.address)
        browser.run("document.getElementById('source').focus()")
        browser.type(LINES[0])
        browser.wait("document.querySelectorAll('.candidate').length > 1")
        expected = server.translate(LINES[:1])["translations"][0]
        assert browser.run("document.querySelector('.sentence').textContent") == expected
        told = browser.run("document.getElementById('weights').textContent")
        assert told == "The engine ctranslate2 does not tell it; the server's --engine torch does."
        assert browser.run("document.querySelectorAll('.word').length") == 0
        assert browser.problems == []
    finally:
        browser.close()
