"""Texts as Markdown that shows them and nothing else: reports become pages of Prefect."""

import re
from typing import Any


def plain(text: str) -> str:
    """The text in one line, with nothing in it that Markdown or HTML would take for markup."""
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~!])", r"\\\1", line)


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table; its cells are Markdown already."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])


def scores_table(tests: dict[str, dict[str, Any]]) -> str:
    """BLEU with its interval, chrF2 and TER of each test set in reports/metrics.json."""
    rows = []
    for name, test in tests.items():
        bleu = f"{test['bleu']:.1f} ({test['bleu_low']:.1f} - {test['bleu_high']:.1f})"
        rows.append([plain(name), str(test["sentences"]), bleu, f"{test['chrf']:.1f}", f"{test['ter']:.1f}"])
    return table(["test set", "sentences", "BLEU (95 % interval)", "chrF2", "TER"], rows)
