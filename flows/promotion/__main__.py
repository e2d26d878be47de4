"""The champion by hand: `python -m flows.promotion` shows its history, `--to VERSION` moves the alias there."""

import argparse
import getpass
import sys
from pathlib import Path

from mlflow.exceptions import MlflowException
from rich.console import Console
from rich.table import Table

from flows.checkout.workspace import PARAMS, main_workspace, model_name, tracking_uri
from flows.promotion.registered_model import RegisteredModel, deciding
from transformer.errors import UserError
from transformer.params import load_params


def history(registered: RegisteredModel) -> Table:
    """A row for each decision, oldest first."""
    champion = registered.champion()
    table = Table("time (UTC)", "version", "decision", "champion then", "reason", title=f"{registered.name}")
    for event in registered.history():
        shown = (event.time[:19].replace("T", " "), event.version, event.decision, event.champion or "-")
        table.add_row(*shown, event.reason)
    table.caption = f"champion: version {champion.number}" if champion else "no champion yet"
    return table


def move(registered: RegisteredModel, number: str, reason: str) -> str:
    """Make a version the champion; returns one line for the user.

    Raises:
        ParamsError: there is no such version.
    """
    version = registered.version(number)
    with deciding(main_workspace()):
        former = registered.champion()
        if former == version:
            return f"version {number} of {registered.name} is the champion already"
        registered.set_champion(version)
        decision = "rolled back" if former and int(number) < int(former.number) else "promoted by hand"
        registered.record(version, decision, reason, {"flow_run": ""})
    instead = f" instead of version {former.number}" if former else ""
    return f"version {number} of {registered.name} is the champion{instead}"


def main() -> None:
    """Read the options and show or move."""
    parser = argparse.ArgumentParser(prog="python -m flows.promotion", description="The champion and its history.")
    parser.add_argument("--to", metavar="VERSION", help="make this version of the registered model the champion")
    parser.add_argument("--reason", default="", help="why, for the history")
    parser.add_argument("--model", help="registered model (default: the direction of params.yaml)")
    options = parser.parse_args()
    try:
        registered = RegisteredModel(tracking_uri(), options.model or model_name(load_params(Path(PARAMS)).languages))
        if options.to:
            print(move(registered, options.to, options.reason or f"by hand, {getpass.getuser()}"))
        else:
            Console().print(history(registered))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except MlflowException as error:
        sys.exit(f"error: MLflow at {tracking_uri()}: {' '.join(str(error).split())[:200]}")


if __name__ == "__main__":
    main()
