"""The scores of the last evaluation in a few lines: `python -m flows.summary`; all of them: `dvc metrics show`."""

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table


def summary(metrics: Path) -> Table:
    """A row for each test set: BLEU with its 95 % interval, chrF2 and TER of the averaged model."""
    content = json.loads(metrics.read_text(encoding="utf-8"))
    table = Table(
        "test set", "sentences", "BLEU", "95 % interval", "chrF2", "TER", title="Averaged model, beam search"
    )
    for name, scores in content["tests"].items():
        interval = f"{scores['bleu_low']:.1f} - {scores['bleu_high']:.1f}"
        numbers = [f"{scores[key]:.1f}" for key in ("chrf", "ter")]
        table.add_row(name, str(scores["sentences"]), f"{scores['bleu']:.1f}", interval, *numbers)
    speed = content["train"]["target_tokens_per_second"]
    table.caption = f"last single checkpoint: BLEU {content['last_checkpoint']['bleu']:.1f}; {speed:,.0f} tokens/s"
    return table


if __name__ == "__main__":
    Console().print(summary(Path("reports/metrics.json")))
