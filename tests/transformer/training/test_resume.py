"""Killed or stopped at any moment and started again, training ends with the bytes of an uninterrupted run."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_inputs import CHECKOUT, TINY_PARAMS
from trainings import tiny_tokens, trained

from transformer.errors import InterruptedTrainingError
from transformer.files import sha256_of
from transformer.params import Params, params_from
from transformer.training.train import Figures

SCRIPT = """
import sys
from pathlib import Path
from transformer.params import load_params
from transformer.training.train import train
here = Path(sys.argv[1])
params = load_params(here / "params.yaml")
train(params.languages, params.model, params.training, params.compute, tokens=here / "tokens", work=here / "work",
      checkpoints=here / "checkpoints", report=here / "training.json", curves=here / "curves",
      on_figures=lambda figures: print(figures.update, flush=True))
"""


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, folder], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)


def test_sigkill_at_random_moments_changes_no_byte(tmp_path: Path) -> None:
    training = {
        **TINY_PARAMS["training"],
        "updates": 60,
        "log_every": 1,
        "checkpoint_every_updates": 3,
        "seed": 1,
        "micro_batch_tokens": 150,
    }
    model, compute = {**TINY_PARAMS["model"], "dropout": 0.2}, {**TINY_PARAMS["compute"], "threads": 2}
    averaging = {**TINY_PARAMS["averaging"], "min_updates_apart": 3}
    params = {**TINY_PARAMS, "model": model, "training": training, "averaging": averaging, "compute": compute}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        tiny_tokens(folder)
        (folder / "params.yaml").write_text(yaml.safe_dump(params))

    assert start(whole).wait() == 0
    random_, reached = random.Random(1), []
    for _ in range(3):
        process = start(killed)
        assert process.stdout is not None
        for _ in range(random_.randint(1, 14)):  # updates from where it stands; then a moment inside one
            line = process.stdout.readline()
        time.sleep(random_.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        reached.append(int(line))
    assert start(killed).wait() == 0

    assert 0 < max(reached) < 60
    names = sorted(path.name for path in (whole / "checkpoints").iterdir())
    assert names == sorted(path.name for path in (killed / "checkpoints").iterdir())
    for path in [*(whole / "checkpoints").iterdir(), *(whole / "curves").iterdir()]:
        assert path.read_bytes() == (killed / path.relative_to(whole)).read_bytes(), path.name


UPDATES = 12


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Params, Path, str]:
    """Params of a short training, its tokens, and the hash of what it makes when nothing happens."""
    training = {**TINY_PARAMS["training"], "updates": UPDATES, "log_every": 1, "validate_every": 4}
    training |= {"checkpoint_every_updates": 3, "validation_bleu_sentences": 0}
    model, averaging = {**TINY_PARAMS["model"], "dropout": 0.2}, {**TINY_PARAMS["averaging"], "min_updates_apart": 3}
    params = params_from({**TINY_PARAMS, "model": model, "training": training, "averaging": averaging}, "")
    folder = tmp_path_factory.mktemp("whole")
    tokens = tiny_tokens(folder / "tokens")
    trained(folder / "run", tokens, params)
    return params, tokens, made_by(folder / "run")


def made_by(folder: Path) -> str:
    return "".join(sha256_of(folder / name) for name in ("checkpoints", "curves", "training.json"))


class CrashError(Exception):
    """Ends a training without a word to it."""


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(1, UPDATES), st.booleans()), max_size=4))
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_any_stops_and_crashes_change_no_byte(
    uninterrupted: tuple[Params, Path, str], tmp_path_factory: pytest.TempPathFactory, ends: list[tuple[int, bool]]
) -> None:
    """Each end is an update, reached in its start or not, and whether a signal asks for it or a crash brings it."""
    params, tokens, expected = uninterrupted
    folder = tmp_path_factory.mktemp("ended")

    for update, crashes in ends:

        def end(figures: Figures, at: int = update, crash: bool = crashes) -> None:
            if figures.update == at:
                if crash:
                    raise CrashError
                os.kill(os.getpid(), signal.SIGTERM)

        try:
            trained(folder, tokens, params, end)
        except (CrashError, InterruptedTrainingError):
            continue
    trained(folder, tokens, params)
    assert made_by(folder) == expected
