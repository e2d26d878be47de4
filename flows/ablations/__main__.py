"""Queue the rows of Table 3, or show their results:

    python -m flows.ablations [--preset multi30k] [--rows ABCDE]   what is not queued or done yet
    python -m flows.ablations --table                              their results, into reports/ablations.csv too

The paper varies its base model; here every row varies the preset by the same factors, so that a small model can
repeat the table. The base itself is always included.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from flows.ablations.queue import queue_ablations
from flows.ablations.table3 import BASE, ablations
from transformer.errors import ParamsError, UserError
from transformer.params import load_params

TABLE_WIDTH = 132  # columns; in a pipe the console assumes 80 and would cut names
REPORT = Path("reports/ablations.csv")
NEXT = """Run them, the first one alone if its data is not prepared yet: the others find it in DVC's run cache.
  dvc queue start --jobs 1           in the background; --jobs N: N at a time
  dvc queue status                   dvc queue logs NAME, dvc queue stop, dvc queue remove --queued
  dvc exp show --only-changed        DVC's view of them; dvc exp remove NAME: to have it queued again
  python -m flows.ablations --table  the table beside the paper's"""


def main() -> None:
    """Read the options; queue or show."""
    parser = argparse.ArgumentParser(prog="python -m flows.ablations", description="Table 3 of the paper.")
    parser.add_argument("--preset", default="multi30k", help="the base, a file of presets/ (default: %(default)s)")
    parser.add_argument("--rows", default="ABCDE", help="letters of the table's rows (default: %(default)s)")
    parser.add_argument("--table", action="store_true", help=f"show the results and write {REPORT}")
    options = parser.parse_args()
    try:
        run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def run(options: argparse.Namespace) -> None:
    """Queue the chosen rows of the preset, or show their results.

    Raises:
        UserError: something the user has to fix, in one line.
    """
    path = Path("presets", f"{options.preset}.yaml")
    if not path.is_file():
        presets = ", ".join(sorted(preset.stem for preset in path.parent.glob("*.yaml")))
        raise ParamsError(f"{options.preset} is not a preset; there are {presets}")
    if wrong := set(options.rows) - set("ABCDE"):
        raise ParamsError(f"--rows: Table 3 has the rows A, B, C, D and E, not {min(wrong)}")
    everything, left_out = ablations(load_params(path).model_dump(), options.preset)
    chosen = [ablation for ablation in everything if ablation.row.letter in {BASE, *options.rows}]
    if options.table:
        from flows.ablations.results import (  # torch: seconds that queueing need not wait
            results,
            shown,
            write_results,
        )

        frame = results(Path(), chosen)
        write_results(REPORT, frame)
        Console(width=max(Console().width, TABLE_WIDTH)).print(shown(frame))
        return
    queued, there = queue_ablations(Path(), chosen)
    for line in left_out:
        print(f"left out: {line}")
    print(f"{len(queued)} queued, {len(there)} queued or done before")
    print(NEXT)


if __name__ == "__main__":
    main()
