"""The champion by hand: `python -m flows.promotion` shows its history, `--to VERSION` moves the alias there."""

import argparse
import getpass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from flows.checkout.workspace import PARAMS, check_is_checkout, main_workspace, model_name, tracking_uri
from flows.promotion.preview import preview
from flows.promotion.provenance import demanded
from flows.promotion.registered_model import RegisteredModel, deciding, errors_in_one_line
from transformer.errors import DataError, ParamsError
from transformer.params import PromotionParams, load_params

SIGNIFICANCE = 0.05  # the default of a retraining's parameter
EXAMPLES = """\
how a model becomes the champion:
  by the gate   a retraining with promote = auto moves the alias if BLEU and chrF2 are not significantly worse than
                the champion's and no guard fails; else it is refused, and the history says why
  approval      prefect deployment run retraining/retraining -p promote=manual
                the run pauses: in Prefect's UI open it, choose Resume, set `approve` and leave a comment;
                nobody within three days counts as a no
  rollback      python -m flows.promotion --to 1 --reason "users complain"

examples:
  python -m flows.promotion                     the history: each decision, its reason, the champion then
  python -m flows.promotion --dry-run           what the gate would say of the workspace's own model
  python -m flows.promotion --dry-run --to 2    what it would say of version 2
  python -m flows.promotion --to 2              make version 2 the champion, whatever the gate says of its
                                                scores; promotion.require_signatures holds here, too

A first champion is the best of the registered models. Without any, a candidate has to beat the committed
reports/metrics.json. What is done to the alias in MLflow itself is noticed and kept in the history.
"""


def history(registered: RegisteredModel) -> Table:
    """A row for each decision, oldest first."""
    with deciding(main_workspace()):
        registered.notice()
    champion = registered.champion()
    table = Table("time (UTC)", "version", "decision", "champion then", "reason", title=f"{registered.name}")
    for event in registered.history():
        shown = (event.time[:19].replace("T", " "), event.version, event.decision, event.champion or "-")
        table.add_row(*shown, event.reason)
    table.caption = f"champion: version {champion.number}" if champion else _nobody(registered)
    return table


def _nobody(registered: RegisteredModel) -> str:
    former = registered.former_champions()
    return f"no champion any more; the last was version {former[0]}" if former else "no champion yet"


def move(registered: RegisteredModel, number: str, reason: str, promotion: PromotionParams) -> str:
    """Make a version the champion; returns one line for the user.

    Raises:
        ParamsError: there is no such version.
        DataError: it is not signed, though params demand it.
    """
    version = registered.version(number)
    if why := demanded(promotion, main_workspace(), Path(), registered.name)(version):
        raise DataError(f"version {number} may not be champion: {why}")
    with deciding(main_workspace()):
        registered.notice()
        former = registered.champion()
        if former == version:
            return f"version {number} of {registered.name} is the champion already"
        registered.set_champion(version)
        decision = "rolled back" if former and int(number) < int(former.number) else "promoted by hand"
        registered.record(version, decision, reason, {"flow_run": ""})
    instead = f" instead of version {former.number}" if former else ""
    return f"version {number} of {registered.name} is the champion{instead}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m flows.promotion",
        description="The champion and its history.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--to", metavar="VERSION", help="make this version of the registered model the champion")
    parser.add_argument("--dry-run", action="store_true", help="show what the gate would decide, and change nothing")
    parser.add_argument("--reason", default="", help="why, for the history")
    parser.add_argument("--model", help="registered model (default: the direction of params.yaml)")
    return parser.parse_args()


def main() -> None:
    """Read the options and show or move."""
    options = _options()
    with errors_in_one_line():
        check_is_checkout(Path.cwd())
        if options.reason and not options.to:
            raise ParamsError("--reason is for --to VERSION, whose decision it explains")
        params = load_params(Path(PARAMS))
        registered = RegisteredModel(tracking_uri(), options.model or model_name(params.languages))
        if options.dry_run:
            sentence, numbers = preview(registered, options.to, params, SIGNIFICANCE)
            Console().print(numbers)
            print(f"{sentence}\nnothing was changed")
        elif options.to:
            reason = options.reason or f"by hand, {getpass.getuser()}"
            print(move(registered, options.to, reason, params.promotion))
        else:
            Console().print(history(registered))


if __name__ == "__main__":
    main()
