"""Training's progress lines as a Prefect progress artifact, which the UI shows as a bar."""

import contextvars
import threading
from types import TracebackType

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_logger

from transformer.progress import TrainingLine

INTERVAL_SECONDS = 2.0


class ProgressArtifact:
    """Follows a stage's output; a thread talks to the server, so that a slow or missing one never delays a line."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._latest: tuple[float, str] | None = None
        self._news, self._ended = threading.Event(), threading.Event()
        context = contextvars.copy_context()  # names the task run
        self._thread = threading.Thread(target=context.run, args=(self._publish,), daemon=True, name="progress")

    def __enter__(self) -> "ProgressArtifact":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._news.set()
        self._thread.join(INTERVAL_SECONDS)

    def read(self, line: str) -> None:
        """Take one line of the stage's output."""
        if found := TrainingLine.read(line):
            share = 100 * found.update / max(found.updates, 1)
            self._latest = share, f"update {found.update} of {found.updates}  {found.figures}"
            self._news.set()

    def _publish(self) -> None:
        artifact = None
        while True:
            self._news.wait()
            ended = self._ended.is_set()
            self._news.clear()
            if self._latest:
                progress, description = self._latest
                try:
                    if artifact is None:
                        key = "".join(sign if sign.isalnum() else "-" for sign in self._stage.lower())
                        artifact = create_progress_artifact(progress, f"progress-{key}", description)
                    else:
                        update_progress_artifact(artifact, progress, description)
                except Exception as error:  # a server that is down must not matter to the stage
                    get_logger("progress").debug("progress not shown: %s", error)
            if ended:
                return
            self._ended.wait(INTERVAL_SECONDS)
