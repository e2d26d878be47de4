"""The table of all parts: printed last, and written as Markdown for benchmarks/README.md."""

import json
from pathlib import Path
from typing import Any

from benchmarks.gpu.parts import NAMES, result_file
from transformer.files import write_text

SUMMARY_FILE = "summary.md"
HEAD = ["what", "figure", "aim", "met"]
WIDE = 60  # a longer cell does not widen its column


def results_of(folder: Path) -> dict[str, dict[str, Any]]:
    """The parts' files there are, by name."""
    paths = {name: result_file(folder, name) for name in NAMES}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items() if path.exists()}


def lines_of(results: dict[str, dict[str, Any]]) -> list[list[str]]:
    """The cells of every part's rows; a part that has not run, failed or was cut has a row that says so."""
    lines = []
    for name in NAMES:
        if name not in results:
            lines.append([name, "not run", "", ""])
            continue
        lines += [_cells(row) for row in results[name]["rows"]]
        if (status := results[name]["status"]) != "done":
            lines.append([name, f"{status.upper()}: {results[name]['error']}", "", "no"])
    return lines


def _cells(row: dict[str, Any]) -> list[str]:
    met = {None: "", True: "yes", False: "no"}[row["met"]]
    return [row["what"], row["figure"], row["aim"], met]


def heading(results: dict[str, dict[str, Any]]) -> str:
    """Command, card and date, or that the figures are none."""
    days = " and ".join(sorted({result["time"][:10] for result in results.values()}))
    if any(result["device"] == "cpu" for result in results.values()):
        return f"A rehearsal on a CPU with tiny sizes, {days}: whether everything runs; not how fast, nor how well."
    figures = results.get("machine", {}).get("figures", {})
    machine = [str(figures[key]) for key in ("card", "python") if key in figures]
    machine += [f"{key} {figures[key]}" for key in ("driver", "torch", "cuda") if key in figures]
    return f"`bash benchmarks/gpu.sh`, {', '.join(machine) or 'machine unknown'}, {days}:"


def show(folder: Path) -> None:
    """Print the table in columns, whole cells, and write it as Markdown to `folder`."""
    results = results_of(folder)
    title, rows = heading(results), [HEAD, *lines_of(results)]
    marked = [rows[0], ["---"] * len(HEAD), *rows[1:]]
    table = "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in marked)
    write_text(folder / SUMMARY_FILE, f"{title}\n\n{table}")
    widths = [max(len(row[column]) for row in rows if len(row[column]) <= WIDE) for column in range(len(HEAD))]
    print(f"\n{title}\n")
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(flush=True)
