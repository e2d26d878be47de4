"""The gate uses a registered model's data, after a look at its hash, and never the code that lies beside it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
import yaml
from tiny_model import sentence, write_tiny_model

from flows.promotion.gate import TestTranslations
from flows.promotion.registered_model import RegisteredModel, Version
from flows.promotion.translate import Search
from flows.promotion.translations import TranslationCache
from transformer.decoding.translator import Translator
from transformer.errors import UserError
from transformer.files import sha256_of
from transformer.params import read_decoding

NAME = "transformer-en-de"
SOURCES = [sentence(1, 5), "", sentence(2, 7)]


class Registered:
    """A model in a store as MLflow keeps it, beside code that leaves a mark when it is executed."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.mark = folder / "executed"
        self.artifacts = folder / "version"
        self.model = self.artifacts / "artifacts" / "model"
        write_tiny_model(self.model)
        poison = f"open({str(self.mark)!r}, 'w').close()\n"
        for name in ("evil.py", "transformer/__init__.py", "mlflow_code.py"):
            (self.artifacts / "code" / name).parent.mkdir(parents=True, exist_ok=True)
            (self.artifacts / "code" / name).write_text(poison)
        flavor = {"loader_module": "evil", "code": "code", "python_version": "3.11"}
        (self.artifacts / "MLmodel").write_text(yaml.safe_dump({"flavors": {"python_function": flavor}}))
        shutil.copyfile(store, folder / "mlflow.db")
        self.uri = f"sqlite:///{folder}/mlflow.db"
        client = mlflow.MlflowClient(tracking_uri=self.uri)
        client.create_registered_model(NAME)
        self.sha256 = sha256_of(self.model)
        client.create_model_version(NAME, source=str(self.artifacts), tags={"sha256": self.sha256})
        self.cache = TranslationCache(folder / "translations", RegisteredModel(self.uri, NAME), Search("fp32", "cpu"))

    def translations(self) -> list[str]:
        texts = TestTranslations(SOURCES, SOURCES, [""] * 3, SOURCES)
        return self.cache.of(Version("1", self.sha256), {"test": texts})["test"].hypotheses


@pytest.fixture
def registered(tmp_path: Path, empty_store: Path) -> Registered:
    return Registered(tmp_path, empty_store)


def test_it_translates_and_executes_nothing_of_what_mlflow_would(registered: Registered) -> None:
    assert registered.translations() == Translator.load(registered.model).translate(SOURCES)
    assert not registered.mark.exists()
    program = (
        f"import mlflow; mlflow.set_tracking_uri({registered.uri!r}); mlflow.pyfunc.load_model('models:/{NAME}/1')"
    )
    subprocess.run([sys.executable, "-P", "-c", program], env=os.environ | {"PYTHONPATH": ""}, capture_output=True)
    assert registered.mark.exists(), "MLflow does not execute it any more: this test shows nothing"


def test_it_translates_in_the_candidates_precision_and_another_ones_cache_does_not_count(
    registered: Registered,
) -> None:
    sources = [sentence(seed, 1 + seed % 9) for seed in range(40)]
    texts = {"test": TestTranslations(sources, sources, [""] * 40, sources)}
    own = read_decoding(registered.model)
    expected, found = {}, {}
    for precision in ("fp32", "bf16", "fp32"):
        decoding = own.model_copy(update={"precision": precision})
        expected[precision] = Translator.load(registered.model, "cpu", decoding).translate(sources)
        cache = TranslationCache(registered.cache.folder, registered.cache.registered, Search(precision, "cpu"))
        found[precision] = cache.of(Version("1", registered.sha256), texts)["test"].hypotheses
    assert found == expected
    assert found["fp32"] != found["bf16"]
    assert sorted(path.parent.name for path in registered.cache.folder.rglob("*.jsonl")) == ["bf16", "fp32"]
    shutil.rmtree(registered.artifacts)  # what is asked for again comes from the cache
    assert cache.of(Version("1", registered.sha256), texts)["test"].hypotheses == expected["fp32"]


@pytest.mark.parametrize("name", ["model.safetensors", "decoding.json", "spm.model", "more.py"])
def test_a_changed_model_is_refused(registered: Registered, name: str) -> None:
    with (registered.model / name).open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(UserError, match=rf"version 1 of {NAME} can't translate .* as when it was registered"):
        registered.translations()
    assert not list(registered.cache.folder.rglob("*.jsonl"))


def test_a_model_that_is_gone_is_one_line(registered: Registered) -> None:
    shutil.rmtree(registered.artifacts)
    with pytest.raises(UserError, match=f"version 1 of {NAME} can't translate the test sets: ") as told:
        registered.translations()
    assert "\n" not in str(told.value)
