"""The last evaluation in a few lines, and whether it is the committed one: `python -m flows.summary`.

All scores: `dvc metrics show`.
"""

import json
import sys
from pathlib import Path

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table

from flows.checkout.workspace import METRICS, check_is_checkout
from flows.lineage.committed import compare_with_commit, in_words
from flows.lineage.project import Project
from flows.records.record import parse_record, record_path
from transformer.errors import UserError
from transformer.evaluation.published import beside_published, full_name


def summary(metrics: Path, tokens_per_second: float | None = None) -> Group:
    """The test sets in one table, then for each of them every BLEU that people quote, beside those published."""
    content = json.loads(metrics.read_text(encoding="utf-8"))
    table = Table(
        "test set",
        "sentences",
        "BLEU",
        "95 % interval",
        "chrF2",
        "chrF2++",
        "TER",
        title="Averaged model, beam search",
    )
    for name, scores in content["tests"].items():
        interval = f"{scores['bleu_low']:.1f} - {scores['bleu_high']:.1f}"
        numbers = [f"{scores[key]:.1f}" for key in ("chrf", "chrf_plus_plus", "ter")]
        table.add_row(name, str(scores["sentences"]), f"{scores['bleu']:.1f}", interval, *numbers)
    table.caption = f"last single checkpoint: BLEU {content['last_checkpoint']['bleu']:.1f}"
    if tokens_per_second:
        table.caption += f"; trained at {tokens_per_second:,.0f} target tokens/s"
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


def training_speed(root: Path) -> float | None:
    """The speed of the training behind the workspace's model in target tokens per second, from its record."""
    try:
        path = record_path(root, "train")
        return parse_record(path.read_bytes(), str(path)).measured.get("target_tokens_per_second")
    except (FileNotFoundError, UserError):  # the model was restored from DVC's cache
        return None


def main() -> None:
    """Print it for the checkout in the working folder."""
    root, console = Path.cwd(), Console()
    try:
        check_is_checkout(root)
        console.print(summary(root / METRICS, training_speed(root)))
    except UserError as error:
        sys.exit(f"error: {error}")
    except FileNotFoundError:
        sys.exit(f"error: {METRICS} is missing: run make repro")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        sys.exit(f"error: {METRICS} is damaged ({type(error).__name__}: {error}): run dvc repro --force evaluate")
    project = Project(root)
    found = compare_with_commit(project)
    nothing = "no results are committed here: there is nothing to compare these with"
    lines = in_words(project, found) if found else [nothing]
    console.print()
    for line in lines:
        console.print(escape(line), soft_wrap=True)


if __name__ == "__main__":
    main()
