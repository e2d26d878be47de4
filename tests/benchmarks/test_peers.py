"""Training beside other toolkits: all are timed and counted alike, and none stops the others."""

import importlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from tiny_inputs import CHECKOUT
from trainings import tiny_tokens

from benchmarks.environment import STAMP, environment
from benchmarks.peers import registry
from benchmarks.peers.__main__ import compare, main
from benchmarks.peers.corpus import write_pieces
from benchmarks.peers.measure import Measured
from benchmarks.peers.registry import OURS, PEERS, Peer, installs
from benchmarks.peers.table import Figures, Round
from benchmarks.peers.trainings.ours import recipe_params
from benchmarks.peers.trainings.trial import RESULT, Clock, Recipe, Trial
from transformer.errors import DataError, UserError
from transformer.tokens.store import SIDES, TokenSplit
from transformer.tokens.vocabulary import Vocabulary
from transformer.training.run import Run
from transformer.training.schedule import learning_rate

TINY = Recipe(
    d_model=32, d_ff=64, heads=2, layers=1, vocabulary_size=400, max_positions=64, batch_tokens=300, warmup_updates=20
)
# A peer in small: its own network, optimizer and batches, and its updates seen through torch's hook.
STUB = """
import sys, torch
sys.path.insert(0, sys.argv[0].rpartition("/stub")[0] + "/checkout")
from benchmarks.peers.trainings.trial import Clock, Trial
trial = Trial.asked()
clock = Clock(trial)
clock.watch_optimizers()
torch.manual_seed(trial.recipe.seed)
network, unused = torch.nn.Linear(4, 3), torch.nn.Parameter(torch.zeros(7))
optimizer = torch.optim.Adam([*network.parameters(), unused])
for update in range(trial.all_updates):
    for tokens in (5, 10 * update):  # two batches an update
        loss = network(torch.ones(4)).square().sum()
        loss.backward()
        clock.saw(tokens, 2.0 * tokens)
    optimizer.step()
    optimizer.zero_grad()
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus of the tests, as `corpus` makes that of the comparison."""
    folder = tmp_path_factory.mktemp("corpus")
    tiny_tokens(folder)
    write_pieces(folder)
    return folder


def target_tokens(data: Path) -> int:
    """Counted in the text: its pieces, and the end of each sentence."""
    text = (data / "pieces" / "train.target").read_text(encoding="utf-8")
    return len(text.split()) + text.count("\n")


def trial(folder: Path, data: Path, **changes: object) -> Trial:
    return Trial(**{"corpus": data, "folder": folder, "precision": "fp32", "warm_up": 2, "updates": 3, **changes})


def test_the_text_is_the_ids(data: Path) -> None:
    vocabulary = Vocabulary.load(data / "tokens" / "spm.model")
    pieces = (data / "pieces.txt").read_text(encoding="utf-8").splitlines()
    assert len(pieces) == vocabulary.size - 4
    ids = {piece: place + 4 for place, piece in enumerate(pieces)}
    train = TokenSplit.open(data / "tokens", "train")
    for side, held in zip(SIDES, (train.source, train.target), strict=True):
        lines = (data / "pieces" / f"train.{side}").read_text(encoding="utf-8").splitlines()
        assert [[*(ids[piece] for piece in line.split()), 3] for line in lines] == [
            held[index].tolist() for index in range(len(held))
        ]


def test_a_piece_with_a_space_is_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Vocabulary, "pieces", lambda self, ids: ["<pad>", "<unk>", "<s>", "</s>", "▁a\u2003b"])
    with pytest.raises(DataError, match="holds a space"):
        write_pieces(data)


def test_the_clock_counts_what_comes_after_the_warm_up(tmp_path: Path) -> None:
    clock = Clock(trial(tmp_path, tmp_path, warm_up=2, updates=12))
    for update in range(1, 15):
        if update == 5:
            time.sleep(0.3)
        clock.saw(update, 3.0 * update)
        clock.saw(100, 500.0 if update > 4 else 9999.0)  # the loss is of the last ten updates, 5 to 14
        assert not (tmp_path / RESULT).exists()
        clock.updated(77)
    found = Measured(**json.loads((tmp_path / RESULT).read_text()))
    assert found.target_tokens == 12 * 100 + sum(range(3, 15))
    assert found.loss == pytest.approx((3 * sum(range(5, 15)) + 10 * 500) / (sum(range(5, 15)) + 10 * 100))
    assert (found.parameters, found.updates) == (77, 12)
    assert 0.3 <= found.seconds < 5
    assert found.cpu_seconds < 0.25  # asleep
    assert found.tokens_per_second == found.target_tokens / found.seconds
    assert found.cpu_seconds_per_1000 == 1000 * found.cpu_seconds / found.target_tokens


def test_all_get_the_same_learning_rates() -> None:
    params = recipe_params(TINY, "fp32", 50)
    for update in 1, 7, 20, 21, 50:
        assert TINY.learning_rate(update) == pytest.approx(learning_rate(update, 32, params.training))


def refused(folder: Path, python: Path, installs: list[list[str]], told: str) -> Path:
    """In place of an installation."""
    raise UserError(f"ERROR: not {installs[0][-1]}")


def test_ours_and_others_go_through_the_same_code(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch as warm-up and one measured: its tokens are those of the text, whoever counts them."""
    (tmp_path / "checkout").symlink_to(CHECKOUT)
    stub, broken, nowhere = (tmp_path / name for name in ("stub.py", "broken.py", "nowhere.txt"))
    monkeypatch.setattr(registry, "environment", refused)
    stub.write_text(STUB)
    broken.write_text("print('begun'); raise SystemExit('no such option: --cpu')")
    nowhere.write_text("nowhere==1.0\n")
    mine = {peer.name: peer for peer in PEERS}
    peers = [
        mine[OURS],
        mine["torch_transformer"],
        Peer("stub", "Stub", ("fp32",), "", program=(str(stub),)),
        Peer("broken", "Broken", ("fp32",), "", program=(str(broken),)),
        Peer("nowhere", "Nowhere", ("bf16", "fp32"), "", requirements=nowhere),
    ]
    params = recipe_params(TINY, "fp32", 1)
    run = Run.prepare(params.model, params.training, params.compute, data / "tokens")
    epoch = len(run.plan(0))
    figures = compare(peers, data, ["fp32"], 1, epoch, epoch, tmp_path / "out", TINY)
    found = {name: one for (name, _), one in figures.rounds[0].found.items()}
    assert list(found) == [OURS, "torch_transformer", "stub"]
    assert found[OURS].target_tokens == found["torch_transformer"].target_tokens == target_tokens(data)
    weights = sum(weight.numel() for weight in run.model.parameters())
    assert found[OURS].parameters == weights
    assert found["torch_transformer"].parameters == weights + 4 * 32  # it ends both stacks with a norm
    assert found[OURS].loss == pytest.approx(found["torch_transformer"].loss, rel=0.15)
    assert 2 < found[OURS].loss < 5  # log 400 = 6
    assert found["stub"].target_tokens == sum(5 + 10 * update for update in range(epoch, 2 * epoch))
    assert found["stub"].loss == pytest.approx(2)
    assert found["stub"].parameters == 4 * 3 + 3  # that have a gradient

    printed = capsys.readouterr().out
    table = (tmp_path / "out" / "table.md").read_text()
    assert printed.endswith(table)
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in table.splitlines() if line.count("|") == 11}
    assert list(rows) == [
        "training", "---", OURS, "torch.nn.Transformer", "Stub", "Broken", "Nowhere",
    ]  # fmt: skip
    assert "| fp32 | failed: no such option: --cpu (see " in rows["Broken"]
    assert "| fp32 | cannot be installed: ERROR: not nowhere==1.0 |" in rows["Nowhere"]
    assert "Nowhere: cannot be installed: " in printed
    assert "Broken, fp32: failed: no such option" in printed


@pytest.mark.slow
def test_hugging_faces_loop_learns_as_ours(data: Path, tmp_path: Path) -> None:
    """In this environment, which has its packages."""
    pytest.importorskip("transformers")
    peers = [PEERS[0], Peer("huggingface", "Marian", ("bf16", "fp32"), "")]
    figures = compare(peers, data, ["bf16", "fp32"], 1, 5, 45, tmp_path, TINY)
    found = figures.rounds[0].found
    assert figures.missing == {}
    for precision in "bf16", "fp32":
        ours, theirs = (found[name, precision] for name in (OURS, "huggingface"))
        assert theirs.parameters == ours.parameters
        assert 1 < ours.loss < 3.5  # log 400 = 6
        assert 1 < theirs.loss < 3.5


def test_an_epoch_of_hugging_faces_loop_is_the_text(data: Path) -> None:
    pytest.importorskip("transformers")
    huggingface = importlib.import_module("benchmarks.peers.trainings.huggingface")
    asked = trial(data, data, recipe=TINY)
    source, target = (huggingface.sentences(asked, side) for side in SIDES)
    updates = huggingface.batches(source, target, TINY)
    seen: list[tuple[list[int], list[int]]] = []
    tokens = 0
    while tokens < target_tokens(data):
        rows, target_in, target_out = next(updates)
        assert 200 < (target_out != 0).sum() <= 300 or len(seen) > 0
        tokens += int((target_out != 0).sum())
        assert (target_in[:, 0] == 2).all()
        assert (target_in[:, 1:] == target_out[:, :-1]).all()
        for one, other in zip(rows.tolist(), target_out.tolist(), strict=True):
            seen.append(([id_ for id_ in one if id_], [id_ for id_ in other if id_]))
    assert tokens == target_tokens(data)
    assert sorted(seen) == sorted((one.tolist(), other.tolist()) for one, other in zip(source, target, strict=True))


def test_joeynmts_divergence_becomes_a_cross_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its targets: 1 - epsilon for the right piece, nothing for padding, the rest divided among the others."""
    absent = ModuleType("joeynmt.training")
    absent.__dict__.update(TrainManager=SimpleNamespace, train=None)
    monkeypatch.setitem(sys.modules, "joeynmt", ModuleType("joeynmt"))
    monkeypatch.setitem(sys.modules, "joeynmt.training", absent)
    from benchmarks.peers.trainings.joeynmt import target_entropy

    recipe = Recipe(vocabulary_size=50)
    targets = torch.full((50,), 0.1 / 48)
    targets[0], targets[7] = 0.0, 0.9
    log_probs = F.log_softmax(torch.randn(50), dim=0)
    divergence = F.kl_div(log_probs, targets, reduction="sum")
    assert float(divergence) + target_entropy(recipe) == pytest.approx(float(-(targets * log_probs).sum()), abs=1e-5)


def measured(tokens: int, seconds: float) -> Measured:
    return Measured(tokens, 10, seconds, 2 * seconds, 7.0, 1_500_000)


def test_ratios_are_of_the_same_round() -> None:
    """Rounds of 100 and 300 and 400 tokens/s of ours against 50, 50 and 100 of the peer's."""
    figures = Figures(flops_per_token=1e6)
    for mine, theirs in (100, 50), (300, 50), (400, 100):
        one = Round({"bf16": 1e9, "fp32": 5e8})
        one.found = {
            (OURS, "bf16"): measured(8000, 8000 / (2 * mine)), (OURS, "fp32"): measured(8000, 8000 / mine),
            ("peer", "fp32"): measured(4000, 4000 / theirs),
        }  # fmt: skip
        figures.rounds.append(one)
    peers = [Peer(OURS, OURS, ("bf16", "fp32"), ""), Peer("peer", "Peer", ("fp32",), "")]
    rows = [line.strip("| ").split(" | ") for line in figures.markdown(peers).splitlines()[2:]]
    assert [row[:3] for row in rows] == [[OURS, "bf16", "600"], [OURS, "fp32", "300"], ["Peer", "fp32", "50"]]
    assert rows[2][3:] == ["4.00 (2.00 - 6.00)", "8.00 (4.00 - 12.00)", "10%", "40.00", "7.000", "400", "1.50 M"]
    assert rows[0][5] == "60%"


def test_an_environment_is_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, wheel = tmp_path / "made", tmp_path / "absent-1.0-py3-none-any.whl"
    python = environment(folder, Path(sys.executable), [], "made")
    assert subprocess.run([python, "-c", "pass"], check=False).returncode == 0
    (folder / "kept").touch()
    assert environment(folder, Path(sys.executable), [], "made") == python
    assert capsys.readouterr().out == "made\n"
    assert (folder / "kept").exists()
    with pytest.raises(UserError, match=r"^ERROR: .*absent-1\.0"):
        environment(folder, Path(sys.executable), [["--no-index", str(wheel)]], "made anew")
    assert capsys.readouterr().out == "made anew\n"
    assert not (folder / "kept").exists()
    assert not (folder / STAMP).exists()  # so that a failure is not taken for made, nor what was there before it


@pytest.mark.parametrize("peer", [peer for peer in PEERS if peer.requirements], ids=lambda peer: peer.name)
def test_every_package_has_a_version(peer: Peer) -> None:
    assert peer.requirements is not None
    calls = installs(peer.requirements)
    assert re.fullmatch(r"torch==[\d.]+", calls[-1][0])
    packages = [word for words in calls[:-1] for word in words if not word.startswith("--")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", word) for word in packages)
    assert not any(word.startswith(("torch==", "nvidia", "pip==")) for word in packages)
    version = peer.title.rpartition(" ")[2]
    assert f"{peer.name}=={version}" in packages or peer.name == "huggingface"


def test_options_are_checked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["peers", "--rounds", "0"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "argument --rounds: '0' is not a number above 0" in capsys.readouterr().err
