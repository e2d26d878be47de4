"""A training on many devices: torchrun's agent starts one process a device, and all of them again when one dies.

`launch` is called on each machine of `compute.nodes`, with the same params and tokens. The environment variables
MASTER_ADDR and MASTER_PORT tell all of them which one leads; a single machine needs neither.
"""

import json
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, cast

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from transformer.errors import InterruptedTrainingError, ParamsError, UserError
from transformer.files import write_json
from transformer.model.device import select_device
from transformer.params import ComputeParams, LanguageParams, ModelParams, TrainingParams
from transformer.stopping import handle_stop_signals
from transformer.training.train import Figures, OnFigures, Paths
from transformer.training.worker import FIGURES_FILE, JOB_FILE, MEASURED_FILE, read_outcome

log = logging.getLogger(__name__)

RESTARTS = 3  # after a rank has died; Prefect's retries come on top
SAVING_SECONDS = 100  # for ranks to save their state once asked to stop; Kubernetes gives pods 120
JOINING_SECONDS = 600  # for machines to wait for one another
POLL_SECONDS = 0.2
TORCHRUN_LOG = "torchrun.log"  # in the folder of the working folders

# Before torch 2.12 the agent gives its ranks 30 seconds, whatever they still have to save.
_PATIENCE: dict[str, Any] = (
    {"shutdown_timeout": SAVING_SECONDS} if "shutdown_timeout" in LaunchConfig.__dataclass_fields__ else {}
)


def launch(
    languages: LanguageParams,
    shape: ModelParams,
    settings: TrainingParams,
    compute: ComputeParams,
    paths: Paths,
    on_figures: OnFigures,
    *,
    leads: bool = True,
    command: Sequence[str] = (sys.executable,),
) -> dict[str, Any]:
    """Train and return as `transformer.training.train.train` does, with a process for each of `compute.devices`.

    Args:
        languages, shape, settings, compute, paths: as of `train`.
        on_figures: as of `train`, called from another thread.
        leads: whether this is the machine whose first rank writes and reports.
        command: starts Python as a child of this process.

    Raises:
        ParamsError: there are not as many devices, or nothing names the first machine.
        UserError: with which a rank has ended, or the machines do not find one another.
    """
    check_devices(compute)
    with tempfile.TemporaryDirectory(prefix="ranks-") as name, _signals_once():
        folder = Path(name)
        absolute = {key: str(cast(Path, path).absolute()) for key, path in paths.items()}
        sections = {"languages": languages, "model": shape, "training": settings, "compute": compute}
        job = {name: section.model_dump() for name, section in sections.items()}
        write_json(folder / JOB_FILE, {**job, "paths": absolute, "leads": leads})
        torchrun = paths["work"] / TORCHRUN_LOG
        try:
            with _torchrun_logs_to(torchrun), _handed_on(folder / FIGURES_FILE, on_figures):
                python, *arguments = command
                config = _config(compute, leads, folder)
                elastic_launch(config, python)(*arguments, "-m", "transformer.training.worker", name)
        except SignalException as error:
            raise read_outcome(folder) or InterruptedTrainingError(
                f"{error.sigval.name}: training stopped before it had begun"
            ) from None
        except ChildFailedError as error:
            raise read_outcome(folder) or _failure(error, torchrun) from None
        except (RendezvousError, dist.DistError) as error:
            raise read_outcome(folder) or UserError(
                f"compute.nodes = {compute.nodes}: the machines do not, or no longer, find one another "
                f"at MASTER_ADDR = {os.environ.get('MASTER_ADDR')} ({type(error).__name__})"
            ) from None
        if outcome := read_outcome(folder):
            raise outcome
        measured = folder / MEASURED_FILE
        return json.loads(measured.read_text(encoding="utf-8")) if measured.exists() else {}


def check_devices(compute: ComputeParams) -> None:
    """Refuse devices that this machine does not have, or machines without a first one.

    Raises:
        ParamsError: names the key and what there is.
    """
    device = select_device(compute.device)
    there = {"cuda": torch.cuda.device_count(), "mps": 1}.get(device.type)
    if there is not None and compute.devices > there:
        raise ParamsError(f"compute.devices = {compute.devices}: this machine has {there} ({device.type})")
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if compute.nodes > 1 and missing:
        raise ParamsError(f"compute.nodes = {compute.nodes}: {' and '.join(missing)} must name the first machine")


def _config(compute: ComputeParams, leads: bool, folder: Path) -> LaunchConfig:
    """Torchrun's options. Ranks get new ports at each restart, so that nothing of the previous attempt interferes."""
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    several = compute.nodes > 1
    host, port = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])) if several else ("localhost", 0)
    return LaunchConfig(
        min_nodes=compute.nodes,
        max_nodes=compute.nodes,
        nproc_per_node=compute.devices,
        run_id="train",
        role="rank",
        rdzv_backend="c10d",
        rdzv_endpoint=f"{host}:{port}",
        rdzv_configs={"is_host": leads, "join_timeout": JOINING_SECONDS, "read_timeout": JOINING_SECONDS},
        local_addr=_own_address(host, port) if several else "localhost",
        max_restarts=RESTARTS,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder / "torchrun")),
        virtual_local_rank=select_device(compute.device).type == "cuda",  # each rank sees its own GPU alone
        signals_to_handle="SIGQUIT",  # the others are ours: see _signals_once
        **_PATIENCE,
    )


def _own_address(host: str, port: int) -> str:
    """The address under which the machine `host` can reach this one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, port))  # this sends nothing
        except OSError:
            return socket.getfqdn()
        address: str = probe.getsockname()[0]
        return address


@contextmanager
def _signals_once() -> Iterator[None]:
    """The first signal ends the agent, which passes it on to the ranks and waits for them; later ones are ignored."""

    def stop(number: int, _frame: FrameType | None) -> None:
        handle_stop_signals(signal.SIG_IGN)
        raise SignalException("asked to stop", signal.Signals(number))

    former = handle_stop_signals(stop)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def _torchrun_logs_to(path: Path) -> Iterator[None]:
    """It reports each death in a dozen lines and a stack trace; we report it in one, and keep its own in a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = [name for name in logging.root.manager.loggerDict if name.startswith("torch.distributed.")]
    loggers = [logging.getLogger(name) for name in ("torch.distributed", *known)]
    handler = logging.FileHandler(path, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    former = [(logger, logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:  # torch gives many of them a handler of their own, which writes to stderr
        logger.handlers, logger.propagate = [], logger.name != "torch.distributed"
    loggers[0].addHandler(handler)
    try:
        yield
    finally:
        for logger, handlers, propagates in former:
            logger.handlers, logger.propagate = handlers, propagates
        handler.close()


@contextmanager
def _handed_on(path: Path, on_figures: OnFigures) -> Iterator[None]:
    """Call `on_figures` for each line that the first rank adds to the file, once for an update that is done twice."""
    path.touch()
    ended = threading.Event()
    known: set[tuple[Any, ...]] = set()

    def follow() -> None:
        rest = ""
        with path.open(encoding="utf-8") as stream:
            last = False
            while not last:
                last = ended.wait(POLL_SECONDS)
                *lines, rest = (rest + stream.read()).split("\n")
                for line in lines:
                    figures = Figures(**json.loads(line))
                    if (key := (figures.update, *figures.metrics)) not in known:
                        known.add(key)
                        on_figures(figures)

    thread = threading.Thread(target=follow, name="figures", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _failure(error: ChildFailedError, log_file: Path) -> UserError:
    """What the first rank to fail in the last attempt died of."""
    rank, failure = error.get_first_failure()
    # An exception comes as a dict, a signal as a text.
    message = failure.message["message"] if isinstance(failure.message, dict) else failure.message
    words = " ".join(message.split())
    return UserError(
        f"rank {rank} failed, also after {RESTARTS} restarts: {words} (torchrun's own words: {log_file})"
    )
