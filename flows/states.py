"""`python -m flows.states`: the work of trainings and other stages that waits to go on, or has ended.

Each line is a working folder below work/: its name, the stage, how far it has come, size and age; below them stands
what a folder was made with that is otherwise in params.yaml now. Unfinished work stays until it is removed here;
finished work goes by size and age, unless it is pinned.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.checkout.preflight import read_params
from flows.checkout.workspace import WORK, check_is_checkout, main_workspace
from transformer.errors import ParamsError, UserError
from transformer.files import locked
from transformer.params import Params
from transformer.working_folder import (
    FINISHED_BYTES,
    FINISHED_DAYS,
    LOCK_FILE,
    State,
    in_words,
    pin,
    remove,
    states_below,
)

STAGES = {"training": "train", "prepare": "prepare", "tokenize": "tokenize"}  # by the name of the folder below work/
SHOWN_DIFFERENCES = 4
TABLE_WIDTH = 100  # names are to be copied, so they are never cut


def main() -> None:
    """List, or change what the options name."""
    parser = argparse.ArgumentParser(prog="python -m flows.states", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--remove", nargs="+", metavar="NAME", default=[], help="delete these")
    parser.add_argument(
        "--pin", nargs="+", metavar="NAME", default=[], help="keep these, whatever their size and age"
    )
    parser.add_argument("--unpin", nargs="+", metavar="NAME", default=[], help="do so no longer")
    options = parser.parse_args()
    try:
        check_is_checkout(main_workspace())
        states = {state.folder.name: state for state in all_states(main_workspace())}
        named = [*options.remove, *options.pin, *options.unpin]
        if unknown := [name for name in named if name not in states]:
            raise ParamsError(f"there is no state {unknown[0]!r}: python -m flows.states lists those there are")
        for name in options.remove:
            remove(states[name].folder)
            print(f"removed {name}, {_size(states[name])}")
        for name in [*options.pin, *options.unpin]:
            pin(states[name].folder, keep=name in options.pin)
            print(f"{name} is {'pinned' if name in options.pin else 'no longer pinned'}")
        if not named:
            show(list(states.values()), _params())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def all_states(workspace: Path) -> list[State]:
    """The working folders of all stages, the last used one of each first."""
    return [state for folder in STAGES for state in states_below(workspace / WORK / folder)]


def _params() -> Params | None:
    try:
        return read_params()
    except UserError as error:
        print(f"warning: nothing to compare with: {error}", file=sys.stderr)
        return None


def show(states: list[State], params: Params | None) -> None:
    """Print a table of them."""
    if not states:
        print("no work waits, and no finished state is kept")
        return
    table = Table("name", "stage", "update", "", "size", "last used", box=None, pad_edge=False)
    for state in states:
        table.add_row(state.folder.name, _stage(state), _update(state), _kind(state), _size(state), _age(state))
    Console(width=TABLE_WIDTH, soft_wrap=True).print(table)
    for state in states if params else []:
        if differing := differing_params(state, params):
            print(f"{state.folder.name}, where params.yaml differs now: {', '.join(differing)}")
    print(
        "Unfinished work stays until --remove NAME; finished goes after "
        f"{FINISHED_DAYS} days without use, or beyond {FINISHED_BYTES / 1e9:.0f} GB, unless --pin NAME."
    )


def differing_params(state: State, params: Params | None) -> list[str]:
    """The params of the state that have another value in params.yaml, each as `training.seed 1 → 2`."""
    if not state.settings:
        why = "damaged, or of an older version" if state.damaged else "missing"
        return [f"unknown: settings.json is {why}"]
    now: dict[str, Any] = params.model_dump() if params else {}
    found = []
    for section, values in state.settings.items():
        if isinstance(values, dict) and isinstance(now.get(section), dict):
            found += _differing(section, values, now[section])
    more = f"and {len(found) - SHOWN_DIFFERENCES} more"
    return found if len(found) <= SHOWN_DIFFERENCES else [*found[:SHOWN_DIFFERENCES], more]


def _differing(section: str, before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    found = []
    for key in {**before, **now}:
        old, new, name = before.get(key), now.get(key), f"{section}.{key}"
        if isinstance(old, dict) and isinstance(new, dict):
            found += _differing(name, old, new)
        elif old != new and not (name == "training.micro_batch_tokens" and new is None):  # null: what fits
            found.append(in_words(name, old, new))
    return found


def _stage(state: State) -> str:
    return STAGES[state.folder.parent.name]


def _update(state: State) -> str:
    return "" if state.update is None else f"{state.update} of {state.updates}"


def _kind(state: State) -> str:
    with locked(state.folder / LOCK_FILE, wait=False) as free:
        words = ["finished" if state.finished else "unfinished"] if free else ["in use"]
    return ", ".join(words + ["pinned"] * state.pinned)


def _size(state: State) -> str:
    return f"{state.bytes / 1e9:.1f} GB" if state.bytes >= 1e8 else f"{state.bytes / 1e6:.1f} MB"


def _age(state: State) -> str:
    hours = (time.time() - state.used) / 3600
    return f"{hours / 24:.0f} days ago" if hours >= 48 else f"{hours:.0f} h ago" if hours >= 1 else "just now"


if __name__ == "__main__":
    main()
