"""The translations of the test sets as plain text, kept in git beside the records."""

import json
from pathlib import Path

from transformer.evaluation.references import Reference, reference_in
from transformer.files import write_text


def hypotheses_in(translations: Path) -> dict[str, tuple[list[Reference], list[str]]]:
    """The references and hypotheses of each test set in `reports/translations`, in the order of the corpus."""
    found = {}
    for path in sorted(translations.glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found[path.stem] = list(map(reference_in, rows)), [row["hypothesis"] for row in rows]
    return found


def keep_hypotheses(translations: Path, kept: Path) -> None:
    """Write each test set's hypotheses into the folder `kept`, a line a sentence, in place of what is there."""
    sets = hypotheses_in(translations)
    for path in kept.glob("*.txt"):
        if path.stem not in sets:
            path.unlink()
    for name, (_, hypotheses) in sets.items():
        write_text(kept / f"{name}.txt", "".join(f"{hypothesis}\n" for hypothesis in hypotheses))
