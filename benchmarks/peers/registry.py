"""The toolkits that are compared, and the environments that they train in."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environment import environment

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
OURS = "ours"
OUR_BATCHES = "target tokens, in four groups of like length"


@dataclass(frozen=True)
class Peer:
    """A toolkit; its training is the program `trainings/NAME.py`, its packages are in `requirements/NAME.txt`."""

    name: str
    title: str
    precisions: tuple[str, ...]
    batches: str  # what its tokens are of which a batch has so many, and which sentences share one
    requirements: Path | None = None  # None: this checkout's own environment
    program: tuple[str, ...] = ()  # arguments of Python in place of the training's module

    @property
    def command(self) -> tuple[str, ...]:
        """Arguments of Python, to which the folder of the trial is added."""
        return self.program or ("-m", f"benchmarks.peers.trainings.{self.name}")

    def python(self, folder: Path) -> Path:
        """Of its environment in `folder`, made there if it is not yet as wanted.

        Raises:
            UserError: it cannot be installed; pip's last line.
        """
        if self.requirements is None:
            return Path(sys.executable)
        told = f"installing {self.title} into {folder}: some minutes, and 1 to 2 GB with a CPU build of torch"
        python = Path(sys.executable).resolve()
        return environment(folder, python, installs(self.requirements), told)


BOTH = ("bf16", "fp32")
PEERS = (
    Peer(OURS, OURS, BOTH, OUR_BATCHES),
    Peer("torch_transformer", "torch.nn.Transformer", BOTH, OUR_BATCHES),
    Peer("eole", "Eole 0.6.4", BOTH, "padded tokens of the longer side, of like length",
         HERE / "requirements" / "eole.txt"),
    Peer("huggingface", "Hugging Face MarianMTModel", BOTH, "target tokens, of like length",
         HERE / "requirements" / "huggingface.txt"),
    Peer("fairseq", "fairseq 0.12.2", ("fp32",), "padded tokens of the longer side, of like length",
         HERE / "requirements" / "fairseq.txt"),
    Peer("joeynmt", "JoeyNMT 2.3.0", ("fp32",), "padded tokens of the longer side, of any length",
         HERE / "requirements" / "joeynmt.txt"),
)  # fmt: skip


def installs(requirements: Path) -> list[list[str]]:
    """Calls of pip: a block of the file after the other, nothing but what it names, then this project's torch.

    What a later block builds from source, it builds with what the blocks before it brought.
    """
    blocks = [block.split() for block in requirements.read_text(encoding="utf-8").strip().split("\n\n")]
    calls = [["--no-deps", *["--no-build-isolation"] * (place > 0), *block] for place, block in enumerate(blocks)]
    torch = re.search(r'"(torch==[^"]+)"', (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    assert torch
    return [*calls, [torch[1]]]
