"""Reports that become pages of Prefect: whatever a file says stays text in them."""

import json
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from flows.markdown import plain, table
from flows.pipeline.report import report
from flows.promotion.gate import Check
from flows.promotion.registered_model import Version
from flows.promotion.report import markdown

HOSTILE = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[x](javascript:alert(1))", "![x](http://evil.example/x)",
    "**bold** _thin_ `code` ~~gone~~", "a | b |\n| c", "\n\n# title\n\n- item", "&lt;script&gt;", "\\`", "<http://evil.example>",
    "<!-- x", "``` x",
]  # fmt: skip
KINDS = {"text", "softbreak"}


def shape(text: str) -> list[tuple[str, tuple[str, ...]]]:
    """The elements of a rendered page; HTML in the source would be among them."""
    found = []
    for token in MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(text):
        found.append((token.type, token.tag))
        found += [(part.type, part.tag) for part in token.children or [] if part.type not in KINDS]
    return found


def words(text: str) -> str:
    parsed = MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(text)
    return "".join(part.content for token in parsed for part in token.children or [])


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_is_shown_as_it_is(value: str) -> None:
    written = table(["head"], [[plain(f"x {value} x")]])
    assert shape(written) == shape(table(["head"], [["x"]]))
    assert words(written) == f"headx {' '.join(value.split())} x"


@pytest.mark.parametrize("value", HOSTILE)
def test_no_value_changes_the_pages_of_promotions(value: str) -> None:
    def page(text: str) -> str:
        check = Check(f"test{text}", f"check{text}", 1.0, 2.0, 0.5, 0.1, True)
        return markdown(f"title{text}", f"reason{text}", [check], Version("1", "a"), None)

    assert shape(page(value)) == shape(page(""))


@pytest.mark.parametrize("value", HOSTILE)
def test_no_value_changes_the_page_of_a_pipeline(value: str, tmp_path: Path) -> None:
    def page(text: str) -> str:
        workspace = tmp_path / ("hostile" if text else "harmless")
        (workspace / "reports").mkdir(parents=True, exist_ok=True)
        scores = {"sentences": 1, "bleu": 1.0, "bleu_low": 1.0, "bleu_high": 1.0, "chrf": 1.0, "ter": 1.0}
        bleus = {"any": {"label": f"label{text}", "bleu": 1.0, "signature": f"signature{text}"}}
        content = {"languages": f"en-de{text}", "tests": {f"test{text}": {**scores, "bleus": bleus}}}
        (workspace / "reports" / "metrics.json").write_text(json.dumps(content))
        return report(workspace, {f"stage{text}": f"outcome{text}"})

    assert shape(page(value)) == shape(page(""))
