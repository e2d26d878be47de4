"""Whole trainings on the device: killed and resumed, under torchrun, and with too little memory."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from on_device import limit_memory, only_on_a_gpu, params, run_of
from tiny_inputs import CHECKOUT
from trainings import tiny_tokens

from transformer.errors import DeviceMemoryError

pytestmark = pytest.mark.cuda

UPDATES = 36
TRAINING = {
    "updates": UPDATES, "log_every": 1, "validate_every": 12, "validation_bleu_sentences": 4,
    "checkpoint_every_updates": 3, "micro_batch_tokens": 1000,
}  # fmt: skip
SCRIPT = """
import json, sys
from pathlib import Path
from transformer.params import load_params
from transformer.training.MODULE import FUNCTION
here = Path(sys.argv[1])
params = load_params(here / "params.yaml")
sections = params.languages, params.model, params.training, params.compute
paths = dict(tokens=here / "tokens", work=here / "work", checkpoints=here / "checkpoints",
             report=here / "training.json", curves=here / "curves")
show = lambda found: print(json.dumps([found.update, found.metrics.get("train/loss")]), flush=True)
CALL
"""


def script(module: str, function: str, call: str) -> str:
    return SCRIPT.replace("MODULE", module).replace("FUNCTION", function).replace("CALL", call)


ALONE = script("train", "train", "train(*sections, **paths, on_figures=show)")
TORCHRUN = script("launch", "launch", "launch(*sections, paths, show)")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tokens(tmp_path_factory.mktemp("cuda"))


def start(folder: Path, tokens: Path, script: str = ALONE) -> "subprocess.Popen[str]":
    folder.mkdir(exist_ok=True)
    if not (folder / "tokens").exists():
        (folder / "tokens").symlink_to(tokens)
        asked = params({"dropout": 0.2, "max_positions": 64}, **TRAINING).model_dump()
        (folder / "params.yaml").write_text(json.dumps(asked))
    return subprocess.Popen([sys.executable, "-c", script, folder], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)


def losses(output: str) -> dict[int, float]:
    """The training loss after each update, from what a process printed."""
    printed = [json.loads(line) for line in output.splitlines() if line.startswith("[")]
    return {update: loss for update, loss in printed if loss is not None}


def test_killed_and_resumed_two_runs_give_the_same_bytes(tmp_path: Path, tokens: Path) -> None:
    folders = [tmp_path / name for name in ("first", "second", "killed")]
    first, second, killed = (start(folder, tokens) for folder in folders)
    assert killed.stdout is not None
    for line in killed.stdout:
        if line.startswith("[") and json.loads(line)[0] >= 5:
            break
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    resumed = start(folders[2], tokens)
    outputs = [process.communicate()[0] for process in (first, second, resumed)]
    assert [process.returncode for process in (first, second, resumed)] == [0, 0, 0]
    assert 3 < min(losses(outputs[2])) < UPDATES
    files = sorted(path.relative_to(folders[0]) for path in (folders[0] / "checkpoints").iterdir())
    assert len(files) > 3
    for other in folders[1:]:
        for path in [*files, Path("curves/training.csv"), Path("curves/validation.csv")]:
            assert (folders[0] / path).read_bytes() == (other / path).read_bytes(), (other.name, path)


@only_on_a_gpu
@pytest.mark.parametrize("compiled", [False, None])
def test_too_little_memory_is_one_line(compiled: bool | None) -> None:
    run = run_of(params({"d_model": 512, "d_ff": 2048}, compile=compiled), pairs=400)
    run.update(1, run.work([run.train_sentences[:4]]))  # compiles
    torch.cuda.synchronize()
    limit_memory(megabytes=8)
    try:
        with pytest.raises(
            DeviceMemoryError, match=r"training\.micro_batch_tokens = 100000 does not fit .*: lower it"
        ):
            run.update(2, run.work([run.train_sentences]))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


# Last: the longest test begins the file, and `--dist=worksteal` gives each of eight processes some neighbours, of
# which others may take all but the first two. Beside the longest, this one never came to its turn.
def test_torchrun_with_one_process_trains_as_without(tmp_path: Path, tokens: Path) -> None:
    """Over NCCL on a GPU, gloo on a CPU; other roundings grow with each update: on an H200 to 0.75 % after 36."""
    alone, shared = start(tmp_path / "alone", tokens), start(tmp_path / "torchrun", tokens, TORCHRUN)
    outputs = [process.communicate()[0] for process in (alone, shared)]
    assert [alone.returncode, shared.returncode] == [0, 0]
    expected, found = map(losses, outputs)
    assert len(found) == UPDATES
    for update in (1, 2, 3, 6, 12):
        assert found[update] == pytest.approx(expected[update], rel=2e-3), update
    assert found[UPDATES] == pytest.approx(expected[UPDATES], rel=2e-2)
