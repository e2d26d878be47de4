"""How fast training is: tokens a second, the share of the hardware's peak, waits for data, compilations."""

import logging

from transformer.training.flops import peak_flops
from transformer.training.network import compilations
from transformer.training.run import Run, Work

log = logging.getLogger(__name__)


class Meter:
    """Counts what the updates of a log interval did."""

    def __init__(self, run: Run, seconds: float) -> None:
        """`seconds` of training are behind the run."""
        self._compiled = run.packed
        self._peak = (peak_flops(run.device, run.precision) or 0.0) * run.ranks.world
        self._updates = self._tokens = self._flops = 0
        self._seconds, self._waited = seconds, 0.0  # before this interval
        self._compilations: int | None = None  # None until the first interval, which warms up

    def count(self, work: Work) -> None:
        """One more update."""
        self._updates += 1
        self._tokens += work.tokens
        self._flops += work.flops

    def read(self, seconds: float, waited: float) -> dict[str, float]:
        """The figures of the interval that ends now; the next one begins.

        Args:
            seconds: of training so far.
            waited: seconds of waiting for data so far.
        """
        took = max(seconds - self._seconds, 1e-9)
        rate = self._flops / took
        figures = {
            "target_tokens_per_second": self._tokens / took,
            "seconds_per_update": took / self._updates,
            "model_teraflops_per_second": rate / 1e12,
            "data_wait_share": (waited - self._waited) / took,
        }
        if self._peak:
            figures["model_flops_utilization"] = rate / self._peak
        if self._compiled:
            figures["compilations"] = self._compiled_graphs()
        self._updates = self._tokens = self._flops = 0
        self._seconds, self._waited = seconds, waited
        return figures

    def _compiled_graphs(self) -> int:
        made, before = compilations(), self._compilations
        if before is not None and made > before:
            log.warning("%d graphs were compiled again after the first log interval", made - before)
        self._compilations = made
        return made
