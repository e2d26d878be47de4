"""The table of all parts: printed last, and written as Markdown for benchmarks/README.md."""

import json
from pathlib import Path
from typing import Any

from benchmarks.gpu.parts import NAMES, result_file
from transformer.files import write_text

SUMMARY_FILE = "summary.md"
HEAD = ["what", "figure", "aim", "met"]


def lines_of(folder: Path) -> list[list[str]]:
    """The cells of every part's rows; a part that has not run, failed or was cut has a row that says so."""
    lines = []
    for name in NAMES:
        path = result_file(folder, name)
        if not path.exists():
            lines.append([name, "not run", "", ""])
            continue
        content = json.loads(path.read_text(encoding="utf-8"))
        lines += [_cells(row) for row in content["rows"]]
        if content["status"] != "done":
            lines.append([name, f"{content['status'].upper()}: {content['error']}", "", "no"])
    return lines


def _cells(row: dict[str, Any]) -> list[str]:
    met = {None: "", True: "yes", False: "no"}[row["met"]]
    return [row["what"], row["figure"], row["aim"], met]


def print_table(folder: Path) -> None:
    """The rows in columns; long cells are not cut, so that a copy of the terminal has everything."""
    rows = [HEAD, *lines_of(folder)]
    widths = [max(len(row[column]) for row in rows if len(row[column]) <= 60) for column in range(len(HEAD))]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(flush=True)


def write_summary(folder: Path) -> None:
    """The same as a section of benchmarks/README.md, with card, date and command."""
    machine = result_file(folder, "machine")
    figures = json.loads(machine.read_text(encoding="utf-8"))["figures"] if machine.exists() else {}
    days = sorted({_content["time"][:10] for _content in map(_read, NAMES, [folder] * len(NAMES)) if _content})
    where = ", ".join(str(figures[key]) for key in ("card", "driver", "torch", "python") if figures.get(key))
    rows = [HEAD, ["---"] * len(HEAD), *lines_of(folder)]
    table = "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows)
    write_text(
        folder / SUMMARY_FILE,
        f"`bash benchmarks/gpu.sh`, {where or 'machine not read'}, {', '.join(days)}:\n\n{table}",
    )


def _read(name: str, folder: Path) -> dict[str, Any] | None:
    path = result_file(folder, name)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
