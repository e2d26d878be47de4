"""Texts as Markdown that shows them and nothing else: reports become pages of Prefect."""

import re


def plain(text: str) -> str:
    """The text in one line, with nothing in it that Markdown or HTML would take for markup."""
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~!])", r"\\\1", line)


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table; its cells are Markdown already."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])
