"""The champion is served: when its alias moves, the server moves on, and no request fails meanwhile."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from prefect_server import until
from served import Server
from tiny_inputs import CHECKOUT
from tiny_model import TINY_DECODING, sentence, tiny_config, tiny_vocabulary, tiny_weights

from flows.promotion.follow import ChampionLink
from flows.promotion.registered_model import RegisteredModel
from transformer.decoding.translator import Translator
from transformer.errors import UserError
from transformer.files import sha256_of, write_json
from transformer.model.folder import write_model
from transformer.params import DECODING_FILE

NAME = "transformer-en-de"


class Registry:
    """Three models with different weights in a store of MLflow's."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.folder = folder
        shutil.copyfile(store, folder / "mlflow.db")
        self.uri = f"sqlite:///{folder}/mlflow.db"
        self.registered = RegisteredModel(self.uri, NAME)
        client, vocabulary = mlflow.MlflowClient(tracking_uri=self.uri), tiny_vocabulary()
        client.create_registered_model(NAME)
        self.models = [folder / f"version-{seed}" / "artifacts" / "model" for seed in range(3)]
        for seed, model in enumerate(self.models):
            write_model(model, tiny_config(vocabulary), tiny_weights(vocabulary, seed), vocabulary)
            write_json(model / DECODING_FILE, TINY_DECODING.model_dump())
            source = str(model.parent.parent)
            client.create_model_version(NAME, source=source, tags={"sha256": sha256_of(model)})
        self.link = ChampionLink(folder / "champion", self.registered)

    def move(self, number: int) -> None:
        self.registered.set_champion(self.registered.version(str(number)))

    def here(self) -> list[str]:
        return sorted(path.name.partition("-")[0] for path in self.link.versions.iterdir())


@pytest.fixture
def registry(tmp_path: Path, empty_store: Path) -> Registry:
    return Registry(tmp_path, empty_store)


def test_the_link_leads_to_the_champion_and_the_one_of_before_stays(registry: Registry) -> None:
    with pytest.raises(UserError, match="has no champion"):
        registry.link.update()
    for number, here in ((1, ["1"]), (2, ["1", "2"]), (3, ["2", "3"]), (2, ["2", "3"])):
        registry.move(number)
        told = registry.link.update()
        assert told is not None
        assert f"is version {number} of" in told
        assert sha256_of(registry.link.link) == sha256_of(registry.models[number - 1])
        assert registry.here() == here
        assert registry.link.update() is None
    assert registry.link.link.is_symlink()
    assert not os.path.isabs(os.readlink(registry.link.link))  # a moved checkout keeps its champion


def test_what_is_damaged_is_refused_or_brought_again(registry: Registry) -> None:
    registry.move(1)
    registry.link.update()
    copy = registry.link.link.resolve()
    registry.move(2)
    registry.link.update()
    (copy / "spm.model").write_bytes(b"")
    registry.move(1)
    registry.link.update()
    assert sha256_of(copy) == sha256_of(registry.models[0])
    (registry.models[2] / "config.json").write_text("{}")
    registry.move(3)
    with pytest.raises(UserError, match=r"version 3 of transformer-en-de: it has sha256 \w+, not"):
        registry.link.update()
    assert registry.link.link.resolve() == copy
    assert registry.here() == ["1", "2"]


def test_nothing_else_is_replaced(registry: Registry) -> None:
    for place in (registry.models[0], registry.models[0] / "config.json"):
        with pytest.raises(UserError, match="is there and no link"):
            ChampionLink(place, registry.registered)


@pytest.fixture
def following(registry: Registry) -> Iterator[Registry]:
    registry.move(1)
    registry.link.update()
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "MLFLOW_TRACKING_URI": registry.uri}
    command = [sys.executable, "-m", "flows.promotion.follow", str(registry.link.link), "--every", "0.2"]
    process = subprocess.Popen(
        [*command, "--model", NAME], env=environment, cwd=registry.folder, stdout=subprocess.PIPE, text=True
    )
    yield registry
    process.terminate()
    assert process.wait(30) == 0


class Clients:
    """Threads that translate without a pause, and what they were answered."""

    def __init__(self, server: Server, count: int) -> None:
        self.server, self.going = server, True
        self.answers: list[tuple[str, str, str]] = []  # line, model, translation
        self.problems: list[str] = []
        self.threads = [threading.Thread(target=self._ask, args=(seed,)) for seed in range(count)]
        for thread in self.threads:
            thread.start()

    def _ask(self, seed: int) -> None:
        while self.going:
            try:
                lines = [sentence(seed, 5), sentence(seed + 100, 9)]
                answer = self.server.translate(lines)
            except Exception as error:
                self.problems.append(repr(error))
                return
            self.answers += [
                (line, answer["model"], text) for line, text in zip(lines, answer["translations"], strict=True)
            ]

    def stop(self) -> None:
        self.going = False
        for thread in self.threads:
            thread.join(60)


def test_the_alias_moves_under_load_and_no_request_fails(following: Registry) -> None:
    names = [sha256_of(model) for model in following.models]
    with Server(following.link.link) as server:
        clients = Clients(server, 8)
        try:
            until(lambda: len(clients.answers) > 50, 60, "answers")
            for number in (2, 3, 1):
                following.move(number)
                until(lambda wanted=names[number - 1]: clients.answers[-1][1] == wanted, 60, f"version {number}")
        finally:
            clients.stop()
        assert clients.problems == []
        assert server.metric('transformer_model_loads_total{outcome="done"}') == 3
        assert server.metric(f'transformer_model_info{{sha256="{names[0]}"}}') == 1
        assert server.end() == 0
    assert {model for _, model, _ in clients.answers} == set(names)
    translators = {name: Translator.load(model) for name, model in zip(names, following.models, strict=True)}
    for line, model, text in set(clients.answers):  # by the model that it names, not by another one
        assert text == translators[model].translate([line])[0]
