"""Dynamic batches by a translator that only notes what it is given, and reloads of a folder that changes."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from prefect_server import until

from transformer.decoding.translation import Options, Translation
from transformer.errors import DataError
from transformer.serving import model as model_module
from transformer.serving.batching import BATCH_TOKENS, MOST_WAITING, Answered, Batcher, BusyError, Wish
from transformer.serving.metrics import Metrics
from transformer.serving.model import ServedModel, WatchedModel

PLAIN = Wish(1, details=False)


@dataclass(eq=False)
class Noting:
    """A model and its translator: capital letters are its translation, and a token is a character."""

    name: str = "noting"
    beam: int = 4
    engine_name: str = "torch"
    reason: str = ""
    batches: list[list[str]] = field(default_factory=list)
    wishes: list[tuple[int, bool]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    @property
    def engine(self) -> "Noting":
        return self

    def tokens(self, line: str) -> int:
        return len(line)

    def translate_nbest(self, lines: list[str], nbest: int, *, options: Options) -> list[list[Translation]]:
        self.batches.append(lines)
        self.wishes.append((nbest, options.details))
        assert self.gate.wait(30)
        if "fault" in lines:
            raise RuntimeError("a fault of the engine")
        return [[Translation(f"{line.upper()} by {self.name}", 0.0)] for line in lines]


class Served:
    """A batcher whose model can be replaced; its first batch, `x`, keeps it busy until `go`."""

    def __init__(self) -> None:
        self.model = Noting()
        self.batcher = Batcher(lambda: cast(ServedModel, self.model), Metrics())
        self.batcher.start()
        self.first = self.batcher.submit(["x"], PLAIN)
        until(lambda: self.model.batches == [["x"]], what="the first batch")

    def go(self) -> None:
        self.model.gate.set()

    def texts(self, future: "Future[Answered]") -> list[str]:
        return [one[0].text for one in future.result(30).translations]


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    yield served
    served.go()
    served.batcher.stop()


def test_requests_that_wait_share_a_batch_in_turn(served: Served) -> None:
    long = served.batcher.submit([f"l{number}" for number in range(5)], PLAIN)
    short = [served.batcher.submit([text], PLAIN) for text in ("a", "b")]
    served.go()
    assert served.texts(long) == [f"L{number} by noting" for number in range(5)]
    assert [served.texts(one) for one in short] == [["A by noting"], ["B by noting"]]
    assert served.model.batches == [["x"], ["l0", "a", "b", "l1", "l2", "l3", "l4"]]


def test_a_batch_holds_so_many_tokens_and_short_requests_do_not_wait_for_a_long_one(served: Served) -> None:
    half = "h" * (BATCH_TOKENS // 2)
    long = served.batcher.submit([half] * 6, PLAIN)
    short = served.batcher.submit(["s"], PLAIN)
    served.go()
    served.texts(long)
    served.texts(short)
    assert [sum(map(len, batch)) <= BATCH_TOKENS for batch in served.model.batches] == [True] * len(
        served.model.batches
    )
    assert sum(len(batch) for batch in served.model.batches) == 8
    assert "s" in served.model.batches[1]


def test_a_line_larger_than_a_batch_is_one(served: Served) -> None:
    huge = served.batcher.submit(["h" * (BATCH_TOKENS + 1), "i"], PLAIN)
    served.go()
    assert len(served.texts(huge)) == 2
    assert [len(batch) for batch in served.model.batches] == [1, 1, 1]


def test_different_wishes_are_not_mixed(served: Served) -> None:
    wishes = [Wish(1, True), PLAIN, Wish(3, False), Wish(1, True), PLAIN]
    futures = [served.batcher.submit([f"w{place}"], wish) for place, wish in enumerate(wishes)]
    served.go()
    for future in futures:
        future.result(30)
    assert served.model.batches[1:] == [["w0", "w3"], ["w1", "w4"], ["w2"]]
    assert served.model.wishes[1:] == [(1, True), (1, False), (3, False)]


def test_a_request_has_one_model_though_another_one_comes_meanwhile(served: Served) -> None:
    half, old = "h" * (BATCH_TOKENS // 2), served.model
    before = served.batcher.submit([half] * 4, PLAIN)
    served.model = Noting("new", gate=old.gate)
    after = served.batcher.submit(["a"], PLAIN)
    served.go()
    assert served.texts(after) == ["A by new"]
    assert served.texts(before) == [f"{half.upper()} by noting"] * 4


def test_a_fault_is_told_to_those_of_its_batch_and_the_next_go_on(served: Served) -> None:
    faulty = [served.batcher.submit(lines, PLAIN) for lines in (["fault", "never"], ["beside"])]
    served.go()
    for future in faulty:
        with pytest.raises(RuntimeError, match="a fault of the engine"):
            future.result(30)
    assert served.texts(served.batcher.submit(["a"], PLAIN)) == ["A by noting"]
    assert served.batcher.waiting() == 0


def test_what_was_cancelled_is_left_out_and_a_full_queue_says_so(served: Served) -> None:
    full = served.batcher.submit(["f"] * MOST_WAITING, PLAIN)
    with pytest.raises(BusyError):
        served.batcher.submit(["a"], PLAIN)
    full.cancel()
    served.go()
    served.texts(served.first)
    until(lambda: served.batcher.waiting() == 0, what="an empty queue")
    assert served.texts(served.batcher.submit(["a"], PLAIN)) == ["A by noting"]
    assert served.model.batches[1:] == [["a"]]


def test_stopping_waits_for_all_that_was_asked() -> None:
    served = Served()
    futures = [served.batcher.submit([f"{number}"], PLAIN) for number in range(20)]
    threading.Timer(0.2, served.go).start()
    served.batcher.stop()
    assert all(future.done() for future in futures)


def load(folder: Path) -> ServedModel:
    text = (folder / "config.json").read_text()
    if text == "broken":
        raise DataError("it is broken")
    if text == "bug":
        raise ZeroDivisionError
    return cast(ServedModel, Noting(text))


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(model_module, "LOOK_SECONDS", 0.05)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(name)
    (tmp_path / "link").symlink_to("first")
    watched = WatchedModel(tmp_path / "link", load, Metrics())
    watched.start()
    yield watched
    watched.stop()


def test_a_link_that_moves_and_a_folder_that_changes_are_loaded(watched: WatchedModel, tmp_path: Path) -> None:
    assert watched.current.name == "first"
    (tmp_path / "new").symlink_to("second")
    (tmp_path / "new").replace(tmp_path / "link")
    until(lambda: watched.current.name == "second", what="the second")
    (tmp_path / "second" / "config.json").write_text("third")
    until(lambda: watched.current.name == "third", what="the third")
    assert watched.problem is None


@pytest.mark.parametrize(
    ("text", "told"), [("broken", "it is broken"), ("bug", "ZeroDivisionError"), (None, "No such")]
)
def test_the_model_of_before_goes_on_when_the_next_can_not_be_loaded(
    watched: WatchedModel, tmp_path: Path, text: str | None, told: str
) -> None:
    file = tmp_path / "first" / "config.json"
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    until(lambda: watched.problem is not None, what="the problem")
    assert told in str(watched.problem)
    time.sleep(0.2)
    assert watched.problem is not None
    assert watched.current.name == "first"
    file.write_text("mended")
    until(lambda: watched.current.name == "mended", what="the mended one")
    assert watched.problem is None


def test_a_folder_that_is_still_being_written_is_not_loaded(watched: WatchedModel, tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / "first" / "model.safetensors").write_text("x" * number)
        (tmp_path / "first" / "config.json").write_text(f"half {number}")
        time.sleep(0.02)
    (tmp_path / "first" / "config.json").write_text("whole")
    until(lambda: watched.current.name == "whole", what="the whole one")
