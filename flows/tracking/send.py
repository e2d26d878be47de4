"""The one process per workspace that delivers spools to MLflow: `python -m flows.tracking.send [--wait] [--to URI]`.

Stages start it detached. It sends their events as they come and runs on until MLflow has everything; if the server
stays down it gives up quietly, and the next stage, or this command with `--wait`, delivers what is left. Records that
a server refuses are tried once by each sender, and kept.
"""

import argparse
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from flows.checkout.tracking_credentials import ADDRESS, checked_address, move_credentials
from flows.checkout.workspace import check_is_checkout, main_workspace, sender_lock, tracking_folder, tracking_uri
from flows.tracking.problem import SEND, Problem, clear_problem, in_a_line, report_problem
from flows.tracking.spool import Spool
from transformer.errors import ExitCode, ParamsError, UserError
from transformer.files import open_private

POLL_SECONDS = 1.0
LOOK_SECONDS = 0.1  # between looks at another sender's progress
LINGER_SECONDS = 4.0  # the next stage of a pipeline usually starts within this time
PATIENCE_SECONDS = 10.0  # with a server that is down, once no stage runs any more
LONGEST_PAUSE_SECONDS = 10.0  # between attempts while the server is down
STORES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")  # schemes of MLflow's tracking URIs


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


def send_all(tracking: Path, linger: float = LINGER_SECONDS, patience: float = PATIENCE_SECONDS) -> list[Problem]:
    """Deliver every spool and follow the live ones; returns why what is left is left.

    What a server refuses is not tried again; what waits for a server is, until it has been down for `patience`
    seconds and no stage runs.
    """
    busy = answered = time.monotonic()
    pause = POLL_SECONDS
    refused: dict[str, Problem] = {}  # by spool
    told = ""
    while True:
        now = time.monotonic()
        spools = [spool for spool in Spool.waiting(tracking) if spool.id not in refused]
        if not spools and now - busy >= linger:
            return list(refused.values())
        if spools:
            busy = now
            found = _deliver_each(spools)
            refused |= {spool: problem for spool, problem in found.items() if problem.what == "refuses"}
            told = _tell(tracking, [*{**refused, **found}.values()], told)
            if not any(problem.what != "refuses" for problem in found.values()):
                answered, pause = now, POLL_SECONDS
            elif any(spool.is_live() for spool in spools):
                answered, pause = now, min(2 * pause, LONGEST_PAUSE_SECONDS)
            elif now - answered >= patience:
                return [*{**refused, **found}.values()]
            if not Spool.waiting(tracking):
                continue
        time.sleep(pause)


def _deliver_each(spools: list[Spool]) -> dict[str, Problem]:
    """Deliver as much of each spool as possible; by spool, why something is left."""
    from flows.tracking.delivery import Delivery  # here: importing MLflow takes seconds

    away: dict[str, Problem] = {}
    found: dict[str, Problem] = {}
    for spool in spools:
        delivery = Delivery(spool)
        if delivery.uri in away:
            found[spool.id] = away[delivery.uri]
        elif problem := delivery.advance():
            found[spool.id] = problem
            if problem.what == "can't be reached":
                away[delivery.uri] = problem
    return found


def _tell(tracking: Path, problems: list[Problem], told: str) -> str:
    """Log a line that differs from the one told last, and have a stage show it; returns the line."""
    line = in_a_line(problems, tracking)
    if line:
        report_problem(tracking, line)
    else:
        clear_problem(tracking)
    if line and line != told:
        logging.getLogger(__name__).warning("%s", line)
    return line


def deliver(tracking: Path) -> str:
    """Wait until nothing is left, or return in a line what is, and why.

    A sender that runs already delivers; this process does where there is none.
    """
    while Spool.waiting(tracking):
        with sender_lock(tracking) as free:
            problems = send_all(tracking, linger=0.0, patience=5.0) if free else []
        if problems:
            return in_a_line(problems, tracking)
        if not free:
            time.sleep(LOOK_SECONDS)
    return ""


def send_in_foreground(tracking: Path, to: str | None) -> int:
    """Deliver until nothing is left, or say in a line what is; returns the exit status."""
    logging.disable()  # MLflow logs stack traces of its database
    spools = Spool.waiting(tracking)
    for spool in spools if to else []:
        spool.redirect(str(to))
    if problem := deliver(tracking):
        print(problem)
        return ExitCode.FAILURE
    sent = f"records of {len(spools)} run{'s' if len(spools) > 1 else ''} sent" if spools else "nothing waits"
    print(f"MLflow: {to or tracking_uri()}: {sent}")
    return ExitCode.OK


def _other_server(address: str) -> str:
    """The address that `--to` names; its user and password go where MLflow reads them.

    Raises:
        ParamsError: it is no tracking URI, or the password cannot be taken out of it.
    """
    if urlsplit(address).scheme.partition("+")[0] not in STORES:
        raise ParamsError(f"--to {address}: not a tracking URI, as http://host:5000 or sqlite:///mlflow.db is one")
    named = {ADDRESS: address}
    move_credentials(named)
    os.environ.update({name: value for name, value in named.items() if name != ADDRESS})
    return checked_address(named[ADDRESS])


def main() -> None:
    """Deliver, as the detached sender or, with `--wait`, in the foreground with a closing line."""
    parser = argparse.ArgumentParser(prog=SEND, description="Send recorded runs to MLflow.")
    waits = "wait until MLflow has everything; exit status 1 and one line while records are left"
    parser.add_argument("--wait", action="store_true", help=waits)
    elsewhere = "send all that waits to this tracking server instead, from its beginning; implies --wait"
    parser.add_argument("--to", metavar="URI", help=elsewhere)
    options = parser.parse_args()
    if options.wait or options.to:
        try:
            check_is_checkout(main_workspace())
            to = _other_server(options.to) if options.to else None
            sys.exit(send_in_foreground(tracking_folder(), to))
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
    logging.basicConfig(format="%(asctime)s %(message)s")
    os.nice(10)
    # A stage that found the lock taken relies on its holder: look once more after releasing it.
    while True:
        with sender_lock(tracking_folder()) as free:
            if not free:
                return
            send_all(tracking_folder())
            left = {spool.id for spool in Spool.waiting(tracking_folder())}
        if not {spool.id for spool in Spool.waiting(tracking_folder())} - left:
            return


if __name__ == "__main__":
    main()
