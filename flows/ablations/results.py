"""The finished rows of Table 3 in one table, beside the paper's own values."""

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from dvc.repo import Repo
from rich.table import Column, Table

from flows.ablations.queue import finished, states
from flows.ablations.table3 import Ablation
from flows.checkout.git import git
from flows.checkout.site_cache import use_private_site_cache
from flows.checkout.workspace import CURVES, METRICS
from transformer.files import write_text
from transformer.model.transformer import Transformer
from transformer.params import params_from

NUMBERS = {
    "params_millions": "params (M)",
    "valid_perplexity": "valid PPL",
    "valid_bleu_greedy": "valid BLEU, greedy",
    "test_bleu": "test BLEU",
    "paper_params_millions": "paper (M)",
    "paper_dev_perplexity": "paper dev PPL",
    "paper_dev_bleu": "paper dev BLEU",
}


def results(workspace: Path, rows: list[Ablation]) -> pd.DataFrame:
    """A line for each row: what our experiment measured, empty until it is done, and what the paper reports.

    Perplexity and greedy BLEU are those of the last validation in training, test BLEU is that of the averaged model
    by beam search on the headline test set; the paper's are by beam search on newstest2013.
    """
    commits = finished(workspace)
    use_private_site_cache(workspace)
    with Repo(str(workspace)) as repo:
        waiting = states(repo)
    lines = []
    for row in rows:
        commit = commits.get(row.name)
        lines.append(
            {
                "row": row.row.letter,
                "paper_row": row.row.what,
                "experiment": row.name,
                "state": "done" if commit else waiting.get(row.name, "not queued"),
                "params_millions": round(_parameters(row.params) / 1e6, 2),
                **(_measured(workspace, commit) if commit else {}),
                "paper_params_millions": row.row.paper.millions,
                "paper_dev_perplexity": row.row.paper.perplexity,
                "paper_dev_bleu": row.row.paper.bleu,
                "commit": commit,
            }
        )
    leading = ["row", "paper_row", "experiment", "state", *NUMBERS]
    return pd.DataFrame(lines).reindex(columns=[*leading, "commit"])


def write_results(path: Path, frame: pd.DataFrame) -> None:
    """Write the frame as CSV."""
    write_text(path, frame.to_csv(index=False))


def shown(frame: pd.DataFrame) -> Table:
    """The frame for the terminal."""
    table = Table(Column("experiment", no_wrap=True), "state", *NUMBERS.values())
    for line in frame.to_dict("records"):
        numbers = ["" if pd.isna(line[name]) else f"{line[name]:g}" for name in NUMBERS]
        table.add_row(line["experiment"], line["state"], *numbers)
    return table


def _measured(workspace: Path, commit: str) -> dict[str, Any]:
    def read(path: str) -> str:
        return git(workspace, "show", f"{commit}:{path}")

    validation = pd.read_csv(io.StringIO(read(f"{CURVES}/validation.csv"))).iloc[-1]
    return {
        "valid_perplexity": round(validation["perplexity"], 2),
        "valid_bleu_greedy": round(validation["bleu"], 1) if "bleu" in validation else None,
        "test_bleu": json.loads(read(METRICS))["test"]["bleu"],
    }


def _parameters(content: dict[str, Any]) -> int:
    params = params_from(content, "ablation")
    with torch.device("meta"):
        model = Transformer(params.model, params.tokenization.vocabulary_size)
    return sum(parameter.numel() for parameter in model.parameters())
