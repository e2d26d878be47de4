"""The one process per workspace that delivers spools to MLflow: `python -m flows.tracking.send [--wait]`.

Stages start it detached. It sends their events as they come and runs on until MLflow has everything; if the server
stays down it gives up quietly, and the next stage, or this command with `--wait`, delivers what is left.
"""

import argparse
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path

from flows.checkout.workspace import main_workspace, sender_lock, tracking_folder, tracking_uri
from flows.tracking.spool import Spool
from transformer.files import open_private, write_private

POLL_SECONDS = 1.0
LOOK_SECONDS = 0.1  # between looks at another sender's progress
LINGER_SECONDS = 4.0  # the next stage of a pipeline usually starts within this time
PATIENCE_SECONDS = 10.0  # with a server that is down, once no stage runs any more
LONGEST_PAUSE_SECONDS = 10.0  # between attempts while the server is down


def start_sender() -> None:
    """Start the sender, detached from this process's pipes and signals, unless one is running."""
    tracking = tracking_folder()
    with sender_lock(tracking) as free:
        if not free:
            return
    with open_private(tracking / "sender.log", "w") as log:
        subprocess.Popen(
            [sys.executable, "-m", "flows.tracking.send"],
            cwd=main_workspace(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def report_problem(tracking: Path, problem: str) -> None:
    """Leave one line for whichever stage looks first, to show the user, unless this outage was already reported."""
    if not _waiting(tracking).exists() and not _told(tracking).exists():
        write_private(_waiting(tracking), problem)


def problem_to_tell(tracking: Path) -> str | None:
    """The problem, returned to only one caller during each outage."""
    try:
        _waiting(tracking).replace(_told(tracking))
    except FileNotFoundError:
        return None
    return _told(tracking).read_text(encoding="utf-8")


def clear_problem(tracking: Path) -> None:
    """The server answers again: the next outage will be reported again."""
    _waiting(tracking).unlink(missing_ok=True)
    _told(tracking).unlink(missing_ok=True)


def _waiting(tracking: Path) -> Path:
    return tracking / "problem.txt"


def _told(tracking: Path) -> Path:
    return tracking / "problem-told.txt"


def send_all(tracking: Path, linger: float = LINGER_SECONDS, patience: float = PATIENCE_SECONDS) -> bool:
    """Deliver every spool and follow the live ones; True when nothing is left.

    Returns False when the server has been down for `patience` seconds and no stage runs.
    """
    busy = answered = time.monotonic()
    pause = POLL_SECONDS
    while True:
        now = time.monotonic()
        spools = Spool.waiting(tracking)
        if not spools and now - busy >= linger:
            return True
        if spools:
            busy = now
            if _deliver_each(tracking, spools):
                answered, pause = now, POLL_SECONDS
            elif any(spool.is_live() for spool in spools):
                answered, pause = now, min(2 * pause, LONGEST_PAUSE_SECONDS)
            elif now - answered >= patience:
                return False
            if spools and not Spool.waiting(tracking):
                continue
        time.sleep(pause)


def _deliver_each(tracking: Path, spools: list[Spool]) -> bool:
    """Deliver as much of each spool as possible; False if a server did not answer."""
    from flows.tracking.delivery import Delivery  # here: importing MLflow takes seconds

    away: set[str] = set()
    for spool in spools:
        delivery = Delivery(spool)
        if delivery.uri in away:
            continue
        try:
            delivery.advance()
        except Exception as error:  # whatever failed, server, network or database: try again later
            traceback.print_exc()
            away.add(delivery.uri)
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            problem = f"MLflow at {delivery.uri} can't be reached; records wait in {tracking} and are sent later"
            report_problem(tracking, f"{problem} ({reason})")
    if not away:
        clear_problem(tracking)
    return not away


def main() -> None:
    """Deliver, as the detached sender or, with `--wait`, in the foreground with a closing line."""
    parser = argparse.ArgumentParser(description="Send recorded runs to MLflow.")
    parser.add_argument("--wait", action="store_true", help="wait until MLflow has everything, and say what is left")
    wait, tracking = parser.parse_args().wait, tracking_folder()
    if wait:
        wait_for_delivery(tracking)
        left = len(Spool.waiting(tracking))
        print(f"MLflow: {tracking_uri()}" + (f" can't be reached, {left} runs wait in {tracking}" if left else ""))
        return
    os.nice(10)
    # A stage that found the lock taken relies on its holder: look once more after releasing it.
    while True:
        with sender_lock(tracking) as free:
            if not free or not send_all(tracking):
                return
        if not Spool.waiting(tracking):
            return


def wait_for_delivery(tracking: Path) -> None:
    """Wait until nothing is left: a running sender delivers it, or else this process, while the server answers."""
    while Spool.waiting(tracking):
        with sender_lock(tracking) as free:
            if free and not send_all(tracking, linger=0.0, patience=5.0):
                return
        if not free:
            time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    main()
