"""Dynamic batching: lines of requests that wait at the same time are translated together, by one thread.

A batch takes a line of each waiting request in turn, so that a long request does not keep short ones waiting.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field

from transformer.decoding.translation import Options, Translation
from transformer.serving.metrics import Metrics
from transformer.serving.model import ServedModel

BATCH_TOKENS = 1024  # of the source: more would not be faster on a CPU, and keep the next request waiting for longer
WAIT_SECONDS = 0.003  # that the first line waits for others
MOST_WAITING = 4096  # lines; with more in the queue there is no use in letting another request in


class BusyError(Exception):
    """Too many lines wait already."""


@dataclass(frozen=True)
class Wish:
    """What a request asks for; requests with the same wishes share batches."""

    nbest: int
    details: bool


@dataclass(eq=False)
class _Job:
    lines: list[str]
    tokens: list[int]  # of each line
    wish: Wish
    model: ServedModel  # all lines of a request are translated by the same one
    done: "Future[Answered]"
    taken: int = 0
    found: dict[int, list[Translation]] = field(default_factory=dict)


@dataclass(frozen=True)
class Answered:
    """The translations of each line of a request, best first, and the model that made them."""

    translations: list[list[Translation]]
    model: ServedModel


class Batcher:
    """A queue of lines, and the thread that translates them."""

    def __init__(self, model: Callable[[], ServedModel], metrics: Metrics) -> None:
        """`model` tells which model new requests get."""
        self._model, self._metrics = model, metrics
        self._jobs = deque[_Job]()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="translator", daemon=True)
        metrics.waiting.set_function(self.waiting)

    def start(self) -> None:
        """Translate from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Return when all that was asked for is translated."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def submit(self, lines: list[str], wish: Wish) -> "Future[Answered]":
        """Put a request's lines into the queue. Of a future that is cancelled, what has not begun is left out.

        Raises:
            BusyError: too many lines are waiting.
        """
        model = self._model()
        job = _Job(lines, list(map(model.tokens, lines)), wish, model, Future())
        with self._changed:
            if self.waiting() + len(lines) > MOST_WAITING:
                raise BusyError
            self._jobs.append(job)
            self._changed.notify()
        return job.done

    def waiting(self) -> int:
        """Lines in the queue."""
        return sum(len(job.lines) - job.taken for job in list(self._jobs))

    @property
    def alive(self) -> bool:
        """Whether what is asked will be translated."""
        return self._thread.is_alive()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._stopping)
                if not self._jobs:
                    return
            time.sleep(WAIT_SECONDS)
            self._translate(self._next_batch())

    def _next_batch(self) -> list[tuple[_Job, int]]:
        """Jobs and the places of their lines: of those that can be translated together, in turn, as much as fits."""
        batch, tokens = list[tuple[_Job, int]](), 0
        with self._changed:
            self._jobs = deque(job for job in self._jobs if not job.done.cancelled())
            others = deque[_Job]()
            while self._jobs:
                job = self._jobs.popleft()
                if batch and (job.wish, job.model) != (batch[0][0].wish, batch[0][0].model):
                    others.append(job)
                    continue
                tokens += job.tokens[job.taken]
                if batch and tokens > BATCH_TOKENS:
                    others.append(job)
                    break
                batch.append((job, job.taken))
                job.taken += 1
                if job.taken < len(job.lines):
                    self._jobs.append(job)
            self._jobs.extendleft(reversed(others))
        return batch

    def _translate(self, batch: list[tuple[_Job, int]]) -> None:
        if not batch:
            return
        first, began = batch[0][0], time.perf_counter()
        lines = [job.lines[place] for job, place in batch]
        options = Options(long_lines="split", details=first.wish.details)
        try:
            nbest = min(first.wish.nbest, first.model.beam)
            found = first.model.engine.translate_nbest(lines, nbest, options=options)
        except Exception as error:
            self._fail({job for job, _ in batch}, error)
            return
        self._metrics.batch_lines.observe(len(batch))
        self._metrics.batch_seconds.observe(time.perf_counter() - began)
        for (job, place), translations in zip(batch, found, strict=True):
            job.found[place] = translations
            if len(job.found) == len(job.lines):
                _tell(job, Answered([job.found[one] for one in range(len(job.lines))], job.model))

    def _fail(self, jobs: set[_Job], error: Exception) -> None:
        with self._changed:
            self._jobs = deque(job for job in self._jobs if job not in jobs)
        for job in jobs:
            _tell(job, error)


def _tell(job: _Job, outcome: Answered | Exception) -> None:
    try:
        if isinstance(outcome, Exception):
            job.done.set_exception(outcome)
        else:
            job.done.set_result(outcome)
    except InvalidStateError:  # cancelled: its client has gone
        pass
