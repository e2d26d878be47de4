"""The scores of the last evaluation in a few lines: `python -m flows.summary`; all of them: `dvc metrics show`."""

import json
from pathlib import Path

from rich.console import Console, Group
from rich.table import Table

from flows.checkout.workspace import METRICS
from transformer.evaluation.published import beside_published, full_name


def summary(metrics: Path) -> Group:
    """The test sets in one table, then for each of them every BLEU that people quote, beside those published."""
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
    quoted = [_quoted(name, scores, content["languages"]) for name, scores in content["tests"].items()]
    return Group(table, *quoted)


def _quoted(name: str, scores: dict[str, dict[str, dict[str, str | float]]], languages: str) -> Table:
    table = Table(title=f"\n{full_name(name)}", title_justify="left", box=None, pad_edge=False)
    table.add_column("BLEU as")
    table.add_column("", justify="right")
    table.add_column("signature or source", overflow="fold")
    for row in beside_published(scores["bleus"], languages, name):
        table.add_row(*row)
    return table


if __name__ == "__main__":
    Console().print(summary(Path(METRICS)))
