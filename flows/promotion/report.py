"""A settlement for people to read: Markdown for Prefect's artifact, a line of reports/promotions.csv."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from flows.markdown import plain, table
from flows.promotion.gate import Check
from flows.promotion.registered_model import Version
from flows.promotion.settle import Candidate, Settlement
from transformer.files import write_text

TABLE = Path("reports", "promotions.csv")
COLUMNS = (
    "time", "version", "sha256", "decision", "reason", "champion", "test_set",
    "bleu", "champion_bleu", "p_value", "chrf", "champion_chrf", "significance", "commit", "flow_run",
)  # fmt: skip


def append_line(table: Path, candidate: Candidate, settlement: Settlement) -> None:
    """Add the settlement to the table, atomically and once; the scores are those of the first test set."""
    before = table.read_text(encoding="utf-8") if table.exists() else ""
    if any(line.startswith(f"{settlement.event.time},") for line in before.splitlines()):
        return  # by a run that crashed afterwards
    headline = next(iter(candidate.tests))
    checks = {check.name: check for check in settlement.checks if check.test_set == headline}
    bleu, chrf = checks.get("bleu"), checks.get("chrf")
    values = {
        "time": settlement.event.time,
        "version": candidate.version.number,
        "sha256": candidate.version.sha256,
        "decision": settlement.event.decision,
        "reason": settlement.event.reason,
        "champion": settlement.former.number if settlement.former else "",
        "test_set": headline,
        "significance": settlement.significance,
        "commit": candidate.commit,
        "flow_run": candidate.flow_run,
    }
    if bleu and chrf:
        values |= {"bleu": bleu.candidate, "champion_bleu": bleu.champion, "p_value": bleu.p_value}
        values |= {"chrf": chrf.candidate, "champion_chrf": chrf.champion}
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    if before:
        text.write(before)
    else:
        writer.writeheader()
    writer.writerow(values)
    write_text(table, text.getvalue())


def markdown(title: str, reason: str, checks: Sequence[Check], candidate: Version, champion: Version | None) -> str:
    """The comparison as a heading, a sentence and a table."""
    against = f"champion: version {champion.number}" if champion else "no champion yet"
    lines = [
        f"# {plain(title)}",
        "",
        f"Candidate: version {candidate.number}; {against}.",
        "",
        f"**{plain(reason)}**",
    ]
    rows = []
    for check in checks:
        champions, p_value = _number(check.champion), _number(check.p_value)
        verdict = "ok" if check.passed else "**fails**"
        cells = (
            plain(check.test_set),
            plain(check.name),
            _number(check.candidate),
            champions,
            p_value,
            _number(check.limit),
            verdict,
        )
        rows.append(list(cells))
    if rows:
        lines += ["", table(["test set", "check", "candidate", "champion", "p", "limit", ""], rows)]
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
