"""The description of a registered model's version: what it was made from, its scores, the gate's decision.

Markdown, in parts that become known one after the other; each is replaced when it is known anew.
"""

import json
import re
from pathlib import Path
from typing import Any

from flows.checkout.workspace import MANIFEST, MODEL
from flows.markdown import plain, scores_table, table
from flows.records.record import Code
from transformer.params import Params

MADE_FROM, SCORES, DECISION = "Made from", "Scores", "Decision of the gate"
ORDER = (MADE_FROM, SCORES, DECISION)


def with_part(description: str | None, heading: str, text: str) -> str:
    """The description with this part in place of its former one, or where it belongs; what a person wrote stays."""
    before, *rest = re.split(r"^## ", description or "", flags=re.MULTILINE)
    parts = {name: body.strip() for name, _, body in (one.partition("\n") for one in rest)}
    parts[heading] = text.strip()
    ordered = [*[name for name in ORDER if name in parts], *[name for name in parts if name not in ORDER]]
    own = [before.strip()] if before.strip() else []
    return "\n\n".join([*own, *(f"## {name}\n\n{parts[name]}" for name in ordered)]) + "\n"


def made_from(params: Params, code: Code, sha256: str, root: Path) -> str:
    """Data with licences, code, shape, and the hash of the model folder."""
    changed = ", with uncommitted changes" if code.changes else ""
    model = params.model
    layers = f"{model.encoder_layers} + {model.decoder_layers} layers, d_model {model.d_model}, {model.heads} heads"
    rows = {
        "direction": plain(f"{params.languages.source} → {params.languages.target}"),
        "data": plain("; ".join(_sources(root / MANIFEST)) or ", ".join(params.download.corpora)),
        "code": f"commit `{code.commit}`{changed}" if code.commit else "no git",
        **_parent(root / MODEL),
        "model": f"{layers}; mean of {params.averaging.count} checkpoints, rule {params.averaging.rule}",
        "search": f"beam {params.decoding.beam}, length penalty alpha {params.decoding.alpha}",
        "SHA-256": f"`{sha256}`",
    }
    return table(["", ""], [[name, value] for name, value in rows.items()])


def _parent(model: Path) -> dict[str, str]:
    """The model that the training started from, as the model folder names it."""
    from transformer.model.folder import LIST_FILE  # here: torch takes seconds to import, and most stages need none

    try:
        parent = json.loads((model / LIST_FILE).read_text(encoding="utf-8"))["parent"]
        return {"started from": f"{plain(parent['name'])}, SHA-256 `{plain(parent['sha256'])}`"}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _sources(manifest: Path) -> list[str]:
    try:
        files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        return list(dict.fromkeys(f"{file['source']} ({file['licence']})" for file in files))
    except (OSError, ValueError, KeyError, TypeError):  # it belongs to an older revision, or is gone
        return []


def scores(metrics: dict[str, Any]) -> str:
    """BLEU with its interval, chrF2 and TER of each test set, and the signatures that others need to compare."""
    first = next(iter(metrics["tests"].values()))
    signatures = [f"- {name}: `{first[key]}`" for name, key in _SIGNATURES.items() if key in first]
    return "\n".join([scores_table(metrics["tests"]), "", *signatures])


_SIGNATURES = {"BLEU": "bleu_signature", "chrF2": "chrf_signature", "TER": "ter_signature"}


def decision(event: dict[str, Any], details: dict[str, Any]) -> str:
    """The decision in a sentence, and what it was compared with."""
    champion = f"version {details['champion']}" if details.get("champion") else "none"
    facts = [f"**{event['decision']}**, {event['time'][:16].replace('T', ' ')} UTC: {plain(event['reason'])}"]
    if "significance" in details:
        facts.append(f"Compared with: champion {champion}, significance {details['significance']}.")
    if details.get("branch"):
        facts.append(f"Results: branch `{details['branch']}`, commit `{details.get('commit', '')}`.")
    return "\n\n".join(facts)
