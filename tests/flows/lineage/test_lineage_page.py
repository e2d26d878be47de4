"""Pictures of a chain: boxes that don't overlap, lines that lead down, and values that stay text wherever they go."""

import os
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tiny_inputs import CHECKOUT

from flows.lineage.chain import Chain, Step
from flows.lineage.checks.link import Link, Status
from flows.lineage.page import GAP, HEIGHT, WIDTH, page
from flows.lineage.record_search import Found
from flows.lineage.show import mermaid, tree
from flows.lineage.sources import Source
from flows.records.record import Record

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = "\"'><script>document.title = 'taken'</script>[/]{{ 7 * 7 }}\n    click n0 href"
ATTACKS = [
    HOSTILE,
    "</title></text></svg></code></td></style></script><img src=x onerror=\"document.title = 'taken'\">",
    "<!--",
    "]]><svg onload=document.title='taken'>",
    "' onmouseover='document.title = 1' x='",
    "{% raw %}{{ chain.__class__ }}",
    "&lt;b&gt;&#60;b&#62;",
]


def chain(hostile: str = "") -> Chain:
    """Two sources, three stages in a row and one beside them; `hostile` is part of every text in it."""
    code = {"commit": f"c{hostile}", "branch": f"main{hostile}", "changes": None, "changed": [f"a.py{hostile}"]}
    machine = {
        "python": f"3{hostile}", "os": f"os{hostile}", "cpu": f"cpu{hostile}", "cores": 2, "threads": None,
        "gpus": [f"gpu{hostile}"], "driver": None, "cuda": None, "packages": {},
    }  # fmt: skip
    runs = {
        "spool": None,
        "mlflow": f"m{hostile}",
        "prefect_flow_run": f"f{hostile}",
        "prefect_task_run": f"t{hostile}",
    }
    content: dict[str, Any] = {
        "stage": "any", "command": "any", "code": code, "params": {}, "seed": 1, "inputs": [], "outputs": [],
        "machine": machine, "started": f"then{hostile}", "ended": f"now{hostile}", "runs": runs,
    }  # fmt: skip
    found = Found(Record.sealed(content), f"here{hostile}")

    def step(name: str, inputs: list[str], outputs: list[str], by: Found | None = found) -> Step:
        md5s = ({f"{path}{hostile}": f"0{hostile}" for path in paths} for paths in (inputs, outputs))
        return Step(
            f"{name}{hostile}", f"run{hostile}", *md5s, {f"key{hostile}": hostile, "more": [hostile]}, by, None
        )

    steps = [
        step("first", [], ["a", "b"]),
        step("second", ["a"], ["c"]),
        step("third", ["a", "c", "b"], ["d"], by=None),
        step("alone", [], ["e"]),
    ]
    sources = [
        Source(
            f"x{number}/f{hostile}", f"https://example.org/{hostile}", f"free{hostile}", f"1{hostile}", 1, None, []
        )
        for number in range(2)
    ]
    return Chain(f"everything{hostile}", [f"d{hostile}"], steps, sources, commit=f"9{hostile}")


class Elements(HTMLParser):
    """The elements of a document with the names of their attributes, and its text."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.words = ""
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_value_becomes_a_part_of_the_page(attack: str) -> None:
    harmless, attacked = Elements(page(chain())), Elements(page(chain(attack)))
    assert attacked.tags == harmless.tags
    assert attacked.words.count(attack) > 30


def links_of(hostile: str = "") -> list[Link]:
    """For a stage with details, one of the parent's and the chain as a whole; of each status one."""
    stages = [f"first{hostile}", f"first{hostile}", f"parent x{hostile}", ""]
    return [
        Link(stage, f"file{hostile}", f"place{hostile}", status, f"why{hostile}", f"do{hostile}")
        for stage, status in zip(stages, (Status.OK, Status.BROKEN, Status.MISSING, Status.CHANGED), strict=True)
    ]


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_value_of_a_verdict_becomes_markup(attack: str) -> None:
    harmless, attacked = (Elements(page(chain(hostile), links_of(hostile))) for hostile in ("", attack))
    assert attacked.tags == harmless.tags
    assert attacked.words.count(f"why{attack}") == 3


def test_verdicts_stand_above_the_graph_the_gravest_word_for_each_stage() -> None:
    text = " ".join(re.sub(r"<[^>]*>", " ", page(chain(), links_of())).split())
    assert "Verified: 1 ok , 1 changed , 1 missing , 1 BROKEN" in text
    assert text.index("first 1 ok, 1 BROKEN file place BROKEN why do") < text.index("How it was made")
    assert "parent x 1 missing file place missing why do" in text
    assert "all 1 changed file place changed why do" in text
    assert "Verified" not in page(chain())


@pytest.mark.parametrize(
    "origin", ["javascript:alert(1)//https://", "data:text/html,x", " https://x", "HTTPS://x", "//x"]
)
def test_only_addresses_of_the_web_become_links(origin: str) -> None:
    made = chain()
    made.sources[:] = [replace(source, origin=origin) for source in made.sources]
    document = page(made)
    links = re.findall(r'href="([^"]*)"', document)
    assert links
    assert all(link.startswith("#") for link in links)
    assert origin in Elements(document).words


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_browser_executes_nothing_of_a_hostile_page(tmp_path: Path) -> None:
    document = page(chain("".join(ATTACKS)))
    control = document.replace("</main>", "<img src=x onerror=\"document.title = 'taken'\"></main>")
    assert titled(control, tmp_path) == "taken"
    assert titled(document, tmp_path) != "taken"


def titled(document: str, folder: Path) -> str:
    """The page's title once a browser has shown it for a while."""
    (folder / "page.html").write_text(document, encoding="utf-8")
    options = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--virtual-time-budget=3000",
    ]
    command = [
        str(CHROMIUM),
        *options,
        f"--user-data-dir={folder / 'profile'}",
        "--dump-dom",
        f"file://{folder}/page.html",
    ]
    shown = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=os.environ | {"HOME": str(folder)}
    )
    return re.search(r"<title>(.*?)</title>", shown.stdout, re.DOTALL)[1]  # type: ignore[index]


def test_there_is_no_other_page() -> None:
    """Whoever makes one adds its tests to the above."""
    rooms = [CHECKOUT / room for room in ("flows", "transformer")]
    found = {str(path.relative_to(CHECKOUT)) for room in rooms for path in room.rglob("*.html")}
    tested_elsewhere = "transformer/serving/page/page.html"  # tests/transformer/serving/test_serving_page.py
    assert found == {"flows/lineage/page.html", tested_elsewhere}


def test_no_value_is_taken_for_markup_of_the_terminal() -> None:
    console = Console(width=1000, record=True, file=open("/dev/null", "w"), soft_wrap=True)  # noqa: SIM115
    console.print(tree(chain("[/][bold]")))
    told = console.export_text()
    assert told.count("[/][bold]") > 10


def test_no_value_leaves_its_label_in_the_chart() -> None:
    harmless, attacked = mermaid(chain()).splitlines(), mermaid(chain(HOSTILE)).splitlines()
    assert len(attacked) == len(harmless)
    assert not any(re.search("<|click n0 href$", line.removeprefix("    ").partition('"')[2]) for line in attacked)
    assert all(line.count('"') in (0, 2) for line in attacked)


def boxes_of(document: str) -> dict[str, tuple[float, float]]:
    """The upper left corner of each box by its label."""
    found = re.findall(r"<title>([^<]*)</title>\n<rect x=\"(-?\d+)\" y=\"(-?\d+)\"", document)
    return {label: (float(x), float(y)) for label, x, y in found}


def test_boxes_stand_apart_and_lines_lead_down_from_one_to_the_other() -> None:
    document = page(chain())
    boxes = boxes_of(document)
    assert set(boxes) == {"x0", "x1", "first", "second", "third", "alone", *"abcde"}
    for (x, y), (other_x, other_y) in combinations(boxes.values(), 2):
        assert abs(x - other_x) >= WIDTH + GAP - 1 or abs(y - other_y) >= HEIGHT
    lines = re.findall(r'<path d="M(\S+) (\S+?)C[^"]* (\S+) (\S+)" marker', document)
    ends = {(label, x + WIDTH / 2, y) for label, (x, y) in boxes.items()}
    joined = set()
    for line in lines:
        x, y, to_x, to_y = map(float, line)
        start = next(label for label, left, top in ends if abs(left - x) <= 1 and abs(top + HEIGHT - y) <= 1)
        end = next(label for label, left, top in ends if abs(left - to_x) <= 1 and abs(top - to_y) <= 1)
        assert to_y > y
        joined.add((start, end))
    read = {("a", "second"), ("a", "third"), ("c", "third"), ("b", "third")}
    written = {("first", "a"), ("first", "b"), ("second", "c"), ("third", "d"), ("alone", "e")}
    sources = {(source, stage) for source in ("x0", "x1") for stage in ("first", "alone")}
    assert joined == read | written | sources
    assert page(chain()) == document


@pytest.mark.parametrize("steps", [[], [Step("lonely", "run", {}, {}, {}, None, None)]])
def test_a_chain_without_any_line_has_a_page(steps: list[Step]) -> None:
    assert "Lineage of nothing" in page(Chain("nothing", [], steps))
