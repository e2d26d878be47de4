"""Background threads that plan updates and assemble their batches, so that the device never waits for data."""

import time
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

from transformer.training.batching import Update
from transformer.training.run import Run, Work

WORKERS = 2
UPDATES_AHEAD = 4


@dataclass(frozen=True)
class Planned:
    """An update's groups, and the place in the data (epoch, position) after it."""

    groups: Update
    epoch: int
    position: int


def planned_updates(run: Run, epoch: int, position: int) -> Generator[Planned]:
    """The updates from this place on, without end; each epoch is planned while the previous one runs."""
    with ThreadPoolExecutor(1, thread_name_prefix="plan") as planner:
        plan = planner.submit(run.plan, epoch)
        while True:
            updates = plan.result()
            plan = planner.submit(run.plan, epoch + 1)
            for index in range(position, len(updates)):
                last = index + 1 == len(updates)
                yield Planned(updates[index], epoch + last, 0 if last else index + 1)
            epoch, position = epoch + 1, 0


class Loader:
    """The updates from a place in the data on, each assembled before it is asked for."""

    def __init__(self, run: Run, epoch: int, position: int) -> None:
        self.waited = 0.0  # seconds that `next` had to wait, in all
        self._run = run
        self._planned = planned_updates(run, epoch, position)
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="batches")
        self._ahead: deque[tuple[Planned, Future[Work]]] = deque()

    def __enter__(self) -> "Loader":
        for _ in range(UPDATES_AHEAD):
            self._submit()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workers.shutdown(cancel_futures=True)
        self._planned.close()

    def next(self) -> tuple[Planned, Work]:
        """The next update; an error from assembling it in the background is raised here."""
        begun = time.monotonic()
        planned, future = self._ahead.popleft()
        work = future.result()
        self._submit()
        self.waited += time.monotonic() - begun
        return planned, work

    def _submit(self) -> None:
        planned = next(self._planned)
        self._ahead.append((planned, self._workers.submit(self._run.work, planned.groups)))
