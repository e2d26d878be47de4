"""Training on this machine's CPU beside Eole, Hugging Face, fairseq, JoeyNMT and torch.nn.Transformer, by turns.

    python -m benchmarks.peers
    python -m benchmarks.peers --only ours --only eole --rounds 1 --updates 20

Each toolkit is installed into an environment of its own below work/peers/, which is kept; one that cannot be is named
with pip's reason, and the others are measured. The corpus is multi30k en-de, downloaded as by the download stage.
"""

import argparse
import logging
import os
import platform
import sys
from pathlib import Path

import torch

from benchmarks.gpu.machine import matrix_rate
from benchmarks.peers.corpus import corpus
from benchmarks.peers.measure import Measured, train
from benchmarks.peers.registry import CHECKOUT, PEERS, Peer
from benchmarks.peers.table import Figures, Round
from benchmarks.peers.trainings.ours import recipe_params
from benchmarks.peers.trainings.trial import LOSS_UPDATES, Recipe, Trial
from transformer.errors import UserError
from transformer.files import write_text
from transformer.model.device import select_precision
from transformer.tokens.store import TokenSplit
from transformer.training.throughput import training_flops

FOLDER = CHECKOUT / "work" / "peers"
PRECISIONS = ("bf16", "fp32")
WIDTH = 2048  # of the matrices whose product is the machine's rate
TABLE = "table.md"


def main() -> None:
    """Install, measure by turns, print; the exit status is that of an error that stops all of it."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    asked = options()
    peers = [peer for peer in PEERS if not asked.only or peer.name in asked.only]
    try:
        data = corpus(FOLDER / "corpus")
        compare(peers, data, asked.precision or list(PRECISIONS), asked.rounds, asked.warm_up, asked.updates)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print(f"\ninterrupted; {os.path.relpath(FOLDER / TABLE)} has the rounds that were whole", file=sys.stderr)
        sys.exit(130)


def options() -> argparse.Namespace:
    """The command line's."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=(__doc__ or "").splitlines()[0])
    names = [peer.name for peer in PEERS]
    parser.add_argument("--only", action="append", choices=names, help="a toolkit; may be given again (default: all)")
    parser.add_argument("--precision", action="append", choices=PRECISIONS, help="may be given again (default: both)")
    parser.add_argument("--rounds", type=_positive, default=3, help="turns of all trainings (3)")
    parser.add_argument("--warm-up", type=_positive, default=10, help="updates before the measured ones (10)")
    parser.add_argument("--updates", type=_positive, default=60, help="updates measured (60)")
    return parser.parse_args()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def compare(
    peers: list[Peer], data: Path, precisions: list[str], rounds: int, warm_up: int, updates: int,
    folder: Path = FOLDER, recipe: Recipe | None = None,
) -> Figures:  # fmt: skip
    """Print the figures as they come, then the table, which stays in `folder` too; `data` is as `corpus` makes it."""
    recipe = recipe or Recipe()
    figures = Figures(flops_per_token(data, recipe))
    pythons = installed(peers, folder, figures)
    for number in range(1, rounds + 1):
        cpu = torch.device("cpu")
        one = Round({name: matrix_rate(cpu, select_precision(name, cpu), WIDTH) for name in precisions})
        figures.rounds.append(one)
        rates = ", ".join(f"{rate / 1e9:,.0f} GFLOP/s in {name}" for name, rate in one.matrix.items())
        print(f"round {number}: products of {WIDTH}³ {rates}, load {os.getloadavg()[0]:.1f}", flush=True)
        for precision in precisions:
            for peer in peers:
                if peer.name in pythons and precision in peer.precisions:
                    trial = Trial(data, folder / "trials" / f"{peer.name}-{precision}", precision, warm_up, updates,
                                  recipe)  # fmt: skip
                    measure(peer, pythons[peer.name], trial, one, figures)
        told = f"{heading(figures, recipe, warm_up, updates)}\n\n{figures.markdown(peers)}\n{batches(peers, recipe)}"
        write_text(folder / TABLE, told)  # after each round: an interruption loses no more than one
    print(f"\n{told}", end="", flush=True)
    return figures


def installed(peers: list[Peer], folder: Path, figures: Figures) -> dict[str, Path]:
    """The Python of each toolkit; why one has none is noted and told."""
    pythons = {}
    for peer in peers:
        try:
            pythons[peer.name] = peer.python(folder / peer.name)
        except UserError as error:
            figures.missing[peer.name] = f"cannot be installed: {error}"
            print(f"{peer.title}: {figures.missing[peer.name]}", flush=True)
    return pythons


def measure(peer: Peer, python: Path, trial: Trial, one: Round, figures: Figures) -> None:
    """A training of the round; one that fails is noted and told, and the others go on."""
    name = f"{peer.title}, {trial.precision}"
    try:
        found = train(peer, python, trial)
    except UserError as error:
        figures.missing[f"{peer.name}, {trial.precision}"] = f"failed: {error}"
        print(f"  {name}: failed: {error}", flush=True)
        return
    one.found[peer.name, trial.precision] = found
    print(f"  {name}: {line(found)}", flush=True)


def line(found: Measured) -> str:
    """A training's figures in words."""
    return (
        f"{found.tokens_per_second:,.0f} target tokens/s, {found.cpu_seconds_per_1000:.2f} CPU seconds per 1000 "
        f"tokens, loss {found.loss:.3f}"
    )


def flops_per_token(data: Path, recipe: Recipe) -> float:
    """Operations of matrix products that a target token of the corpus needs, on the mean."""
    train = TokenSplit.open(data / "tokens", "train")
    shape = recipe_params(recipe, "fp32", 1).model
    lengths = train.source.lengths, train.target.lengths
    return training_flops(shape, recipe.vocabulary_size, *lengths) / int(lengths[1].sum())


def batches(peers: list[Peer], recipe: Recipe) -> str:
    """What each means by a batch of so many tokens."""
    return "".join(f"- {peer.title}: batches of {recipe.batch_tokens:,} {peer.batches}\n" for peer in peers)


def heading(figures: Figures, recipe: Recipe, warm_up: int, updates: int) -> str:
    """What was measured, where and how."""
    matrix = {name: sorted(one.matrix[name] for one in figures.rounds) for name in figures.rounds[0].matrix}
    rates = ", ".join(
        f"{rates[len(rates) // 2] / 1e9:,.0f} ({rates[0] / 1e9:,.0f} - {rates[-1] / 1e9:,.0f}) GFLOP/s in {name}"
        for name, rates in matrix.items()
    )
    return (
        f"{len(figures.rounds)} rounds of {updates} updates after {warm_up}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}. Products "
        f"of {WIDTH}³: {rates}; a target token needs {figures.flops_per_token / 1e6:.1f} MFLOP. Medians, in brackets "
        f"least and most; the loss is of the last {LOSS_UPDATES} updates, weights are those trained."
    )


if __name__ == "__main__":
    main()
