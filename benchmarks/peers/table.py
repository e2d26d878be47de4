"""What the rounds found, as a table: medians, and ratios of trainings of one round."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median

from benchmarks.peers.measure import Measured
from benchmarks.peers.registry import OURS, Peer

HEADING = (
    "training", "precision", "target tokens/s", "ours is faster by", "ours in bf16 by", "of the matrix rate",
    "CPU s per 1000 tokens", "loss", "tokens an update", "weights",
)  # fmt: skip


@dataclass
class Round:
    """A turn of all trainings, by name and precision, and the rates of matrix products before it, by precision."""

    matrix: dict[str, float]
    found: dict[tuple[str, str], Measured] = field(default_factory=dict)


@dataclass
class Figures:
    """All rounds, and why a toolkit or one of its trainings is missing in them."""

    flops_per_token: float  # operations that a target token of the corpus needs, by throughput.training_flops
    rounds: list[Round] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)  # by a toolkit's name, or "name, precision"

    def markdown(self, peers: list[Peer]) -> str:
        """The table, a row a toolkit and precision."""
        rows = [list(HEADING), ["---"] * len(HEADING)]
        for precision in self.rounds[0].matrix:
            for peer in peers:
                if precision in peer.precisions:
                    rows.append(self._row(peer, precision))
        return "".join(f"| {' | '.join(row)} |\n" for row in rows)

    def _row(self, peer: Peer, precision: str) -> list[str]:
        found = [(one, one.found[peer.name, precision]) for one in self.rounds if (peer.name, precision) in one.found]
        if not found:
            why = self.missing.get(peer.name) or self.missing.get(f"{peer.name}, {precision}") or "not measured"
            return [peer.title, precision, why.replace("|", "/"), *[""] * (len(HEADING) - 3)]
        measured = [each for _, each in found]
        speed = median(each.tokens_per_second for each in measured)
        shares = (each.tokens_per_second * self.flops_per_token / one.matrix[precision] for one, each in found)
        return [
            peer.title,
            precision,
            f"{speed:,.0f}",
            _spread(self._ratios(peer, precision, precision)),
            _spread(self._ratios(peer, precision, "bf16")),
            f"{median(shares):.0%}",
            f"{median(each.cpu_seconds_per_1000 for each in measured):.2f}",
            f"{median(each.loss for each in measured):.3f}",
            f"{median(each.target_tokens / each.updates for each in measured):,.0f}",
            f"{measured[0].parameters / 1e6:.2f} M",
        ]

    def _ratios(self, peer: Peer, precision: str, ours: str) -> Iterator[float]:
        """Of the rounds that have both: our speed in the precision `ours`, over the peer's."""
        for one in self.rounds:
            theirs, mine = one.found.get((peer.name, precision)), one.found.get((OURS, ours))
            if theirs and mine and theirs is not mine:
                yield mine.tokens_per_second / theirs.tokens_per_second


def _spread(values: Iterator[float]) -> str:
    found = list(values)
    if len(found) < 2:
        return f"{found[0]:.2f}" if found else ""
    return f"{median(found):.2f} ({min(found):.2f} - {max(found):.2f})"
