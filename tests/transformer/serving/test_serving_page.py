"""The page in headless Chromium: on a telephone and on a desk, by mouse and by keyboard, with hostile text."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser
from served import Server
from tiny_model import sentence

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")]
TEXT = sentence(1, 6)
ATTACKS = [
    "<img src=x onerror=\"document.title = 'taken'\">",
    "<script>document.title = 'taken'</script>",
    "\"'><svg onload=document.title='taken'>",
    "</textarea></div></script><style>*{display:none}</style>",
    "javascript:document.title='taken'",
    "&lt;img src=x onerror=document.title='taken'&gt;",
    "{{7*7}} ${7*7} \u202e\u0000",
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


def translated(browser: Browser, text: str) -> list[str]:
    """Type a text; returns the lines of its translation."""
    browser.run("document.getElementById('source').focus(); document.getElementById('source').select()")
    browser.type(text)
    browser.wait("!document.querySelector('.stale') && document.querySelector('.sentence')")
    browser.wait("document.getElementById('target').getAttribute('aria-busy') === 'false'")
    found: list[str] = browser.run("[...document.querySelectorAll('.sentence')].map((one) => one.textContent)")
    return found


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_translates_as_one_types(server: Server, browser: Browser, width: int, dark: bool) -> None:
    browser.open(server.address, width, dark=dark)
    assert browser.run("document.activeElement.id") == "source"
    answer = server.translate([TEXT], nbest=4)
    assert translated(browser, TEXT) == answer["translations"]
    shown = browser.run("[...document.querySelectorAll('.candidate span:first-child')].map((one) => one.textContent)")
    assert shown == [one["text"] for one in answer["nbest"][0]]
    assert browser.run("document.getElementById('direction').textContent") == "English to German"
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) < 384) == dark
    assert least_contrast(browser) >= 4.5
    browser.run("document.getElementById('source').focus(); document.getElementById('source').select()")
    browser.type(" ")
    browser.wait("document.getElementById('more').hidden && !document.querySelector('.sentence')")
    assert browser.problems == []


def least_contrast(browser: Browser) -> float:
    """The lowest WCAG contrast of a text of the page to what is behind it."""
    ratio: float = browser.run("""(() => {
      const rgb = (text) => text.match(/[\\d.]+/g).map(Number)
      const linear = (one) => (one /= 255) <= .04045 ? one / 12.92 : ((one + .055) / 1.055) ** 2.4
      const light = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b)
      const behind = (element) => {
        for (let one = element; one; one = one.parentElement) {
          const colour = rgb(getComputedStyle(one).backgroundColor)
          if (colour.length === 3) return colour
        }
      }
      const texts = [...document.querySelectorAll("body *")].filter((one) => one.offsetParent
        && [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()))
      return Math.min(...texts.map((one) => {
        const both = [light(rgb(getComputedStyle(one).color)), light(behind(one))].sort((a, b) => a - b)
        return (both[1] + .05) / (both[0] + .05)
      }))
    })()""")
    return ratio


def weights(browser: Browser, row: int) -> list[float]:
    script = "[...document.querySelectorAll('.words')[%d].querySelectorAll('.word')].map((one) => "
    script += "Number(one.style.getPropertyValue('--weight') || 0))"
    found: list[float] = browser.run(script % row)
    return found


@pytest.mark.parametrize("width", [390, 1280])
def test_pointing_at_a_word_shows_where_attention_was(server: Server, browser: Browser, width: int) -> None:
    browser.open(server.address, width)
    translated(browser, TEXT)
    (details,) = server.translate([TEXT], details=True)["nbest"][0][0]["details"]
    script = "[...document.querySelector('.words').querySelectorAll('.word')].map((one) => one.textContent)"
    words = browser.run(script)
    assert words == [*TEXT.split(), "end"]
    read, written = groups(details["source_tokens"]), groups(details["tokens"])
    each = details["alignment"]
    looked = [[sum(each[row][place] for row in to for place in of) / len(to) for of in read] for to in written]
    second = "document.querySelectorAll('.words')[1].querySelectorAll('.word')[1]"
    browser.point(second)
    browser.wait(f"{second}.classList.contains('chosen')")
    assert weights(browser, 0) == pytest.approx([0.6 * one for one in looked[1]], abs=2e-3)
    assert set(weights(browser, 1)) == {0}
    third = "document.querySelectorAll('.words')[0].querySelectorAll('.word')[2]"
    browser.point(third)
    browser.wait(f"{third}.classList.contains('chosen')")
    assert weights(browser, 1) == pytest.approx([0.6 * one[2] for one in looked], abs=2e-3)
    assert "was looked at for" in browser.run("document.getElementById('weights').textContent")


def groups(tokens: list[str]) -> list[list[int]]:
    """The places of the tokens of each word."""
    found: list[list[int]] = []
    for place, piece in enumerate(tokens):
        if piece.startswith("▁") or piece == "</s>" or not found:
            found.append([])
        found[-1].append(place)
    return found


def test_all_of_it_works_by_keyboard(server: Server, browser: Browser) -> None:
    browser.open(server.address)
    lines = [TEXT, "", sentence(2, 4)]
    first = translated(browser, "\n".join(lines))
    assert len(first) == 3
    assert first[1] == ""
    seen = list[str]()
    for _ in range(8):
        browser.press("Tab")
        seen.append(browser.run("document.activeElement.className || document.activeElement.id || 'out'"))
    assert seen[:5] == ["sentence", "sentence", "copy", "candidate", "word chosen"]
    browser.run("document.querySelector('.candidate[tabindex=\"0\"]').focus()")
    browser.press("ArrowDown")
    chosen = browser.run("document.querySelector('.candidate[aria-checked=true] span').textContent")
    shown = browser.run("document.querySelector('.sentence').textContent")
    assert chosen == shown != first[0]
    browser.press("Tab")
    for key in ("ArrowRight", "ArrowDown", "ArrowRight"):
        browser.press(key)
    place = "[...document.querySelectorAll('.words')[1].querySelectorAll('.word')].indexOf(document.activeElement)"
    assert browser.run(place) == 2
    assert any(weights(browser, 0))
    browser.press("Escape")
    assert not any(weights(browser, 0))
    assert browser.problems == []


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_text_stays_text(server: Server, browser: Browser, attack: str) -> None:
    browser.open(server.address)
    own = browser.run("document.querySelectorAll('body *').length")
    translated(browser, f"{attack} {TEXT}\n{attack}")
    assert browser.run("document.title") == "Translate"
    assert browser.run("document.querySelectorAll('img, svg, iframe, main script, main style').length") == 0
    assert browser.run("document.querySelectorAll('body *').length") > own
    assert browser.problems == []


def test_what_a_hostile_model_or_server_answers_stays_text_too(server: Server, browser: Browser) -> None:
    """The tiny model can't write markup, so the answer is put in its place."""
    browser.open(server.address)
    evil = ATTACKS[0]
    details = {
        "source_tokens": [f"▁{evil}", "</s>"], "tokens": [f"▁{evil}", "</s>"], "token_log_probs": [0, 0],
        "alignment": [[1, 0], [0, 1]],
    }  # fmt: skip
    one = {"text": evil, "score": 0, "log_prob": 0, "cut": False, "details": [details]}
    answer = json.dumps({"model": evil, "translations": [evil], "nbest": [[one, one]]})
    browser.run(f"void (window.fetch = async () => new Response({json.dumps(answer)}))")
    assert translated(browser, TEXT) == [evil]
    browser.point("document.querySelector('.word')")
    browser.wait("document.getElementById('weights').textContent.includes('onerror')")
    assert browser.run("document.querySelectorAll('img').length") == 0
    refused = json.dumps(json.dumps({"detail": evil}))
    browser.run(f"void (window.fetch = async () => new Response({refused}, {{status: 422}}))")
    browser.type("x")
    browser.wait("document.getElementById('status').textContent.includes('onerror')")
    assert browser.run("document.querySelectorAll('img').length") == 0
    assert browser.run("document.title") == "Translate"


def test_the_policy_stops_what_would_be_injected(server: Server, browser: Browser) -> None:
    """The control of the tests above: even markup that reached the page would do nothing."""
    browser.open(server.address)
    browser.run("document.querySelector('main').innerHTML += `<img src=x onerror=\"document.title = 'taken'\">`")
    browser.run("new Promise((done) => setTimeout(done, 500))")
    assert browser.run("document.title") == "Translate"
    browser.wait("true")
    assert any("Content Security Policy" in problem for problem in browser.problems)
    browser.problems.clear()


def test_a_refusal_is_told_and_the_key_is_asked_for(model: Path, server: Server, browser: Browser) -> None:
    browser.open(server.address)
    browser.run("document.getElementById('source').focus()")
    status = "document.getElementById('status').textContent"
    browser.type("a\n" + "a" * 2001)
    browser.wait(f"{status} === 'Line 2 has 2001 characters; a line may have 2000.'")
    browser.run("document.getElementById('source').select()")
    browser.type("a\n" * 128 + "a")
    browser.wait(f"{status} === 'These are 129 lines; at most 128 are translated at a time.'")
    assert browser.problems == []
    key = "a-key-of-some-length"
    with Server(model, TRANSFORMER_API_KEY=key) as locked:
        browser.open(locked.address)
        browser.run("document.getElementById('source').focus()")
        browser.type(TEXT)
        browser.wait("!document.getElementById('unlock').hidden && document.activeElement.id === 'key'")
        browser.type("wrong")
        browser.run("document.getElementById('unlock').requestSubmit()")
        browser.wait("document.getElementById('status').textContent === 'the key is wrong'")
        browser.run("document.getElementById('key').select()")
        browser.type(key)
        browser.run("document.getElementById('unlock').requestSubmit()")
        browser.wait("document.querySelector('.sentence')")
        assert browser.run("document.getElementById('unlock').hidden")
    browser.problems.clear()  # Chromium's own words for answers with the status 401
