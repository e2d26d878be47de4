"""What `/metrics` tells Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
LINES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        own = {"namespace": "transformer", "registry": self._registry}
        self.requests = Counter("requests", "Requests by path and status", ["path", "status"], **own)
        self.seconds = Histogram("translate_seconds", "From a request's arrival to its answer", buckets=SECONDS, **own)
        self.lines = Counter("lines", "Lines translated", **own)
        self.waiting = Gauge("waiting_lines", "Lines in the queue", **own)
        self.batch_lines = Histogram("batch_lines", "Lines translated together", buckets=LINES, **own)
        self.batch_seconds = Histogram("batch_seconds", "Time that a batch took", buckets=SECONDS, **own)
        self.loads = Counter("model_loads", "Attempts to load a changed model", ["outcome"], **own)
        self.model = Gauge("model_info", "The model that is served", ["sha256"], **own)

    def serving(self, name: str) -> None:
        """The model has this SHA-256 from now on."""
        self.model.clear()
        self.model.labels(name).set(1)

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self._registry)
