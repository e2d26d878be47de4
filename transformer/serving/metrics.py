"""What `/metrics` tells Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
LINES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        name, own = "transformer_", self._registry
        self.requests = Counter(f"{name}requests", "Requests by path and status", ["path", "status"], registry=own)
        self.seconds = Histogram(
            "translate_seconds", "From a request's arrival to its answer", buckets=SECONDS, registry=own
        )
        self.lines = Counter(f"{name}lines", "Lines translated", registry=own)
        self.waiting = Gauge(f"{name}waiting_lines", "Lines in the queue", registry=own)
        self.batch_lines = Histogram(f"{name}batch_lines", "Lines translated together", buckets=LINES, registry=own)
        self.batch_seconds = Histogram(
            f"{name}batch_seconds", "Time that a batch took", buckets=SECONDS, registry=own
        )
        self.loads = Counter(f"{name}model_loads", "Attempts to load a changed model", ["outcome"], registry=own)
        self.model = Gauge(f"{name}model_info", "The model that is served", ["sha256"], registry=own)

    def serving(self, name: str) -> None:
        """The model has this SHA-256 from now on."""
        self.model.clear()
        self.model.labels(name).set(1)

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self._registry)
