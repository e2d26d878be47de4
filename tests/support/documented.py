"""The code and commands that documents show, so that tests run what readers copy."""

import re

from tiny_inputs import CHECKOUT


def blocks(document: str, heading: str, language: str) -> list[str]:
    """The fenced blocks of a language ("" for output) below a heading, up to the next one of its depth."""
    text = (CHECKOUT / document).read_text(encoding="utf-8")
    depth = heading.split(" ")[0]
    _, found, after = text.partition(f"\n{heading}\n")
    assert found, f"{document} has no {heading}"
    section = re.split(rf"^{depth} ", after, maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall(r"^```(\w*)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return [content for kind, content in found if kind == language]
