"""A statement that an edit of code changes no result: about one stage, one path, one pair of hashes."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.checkout.workspace import RECORDS
from flows.signatures.envelope import opened, sealed
from flows.signatures.policy import POLICY, Policy
from flows.signatures.statement import STATEMENT
from transformer.errors import DataError
from transformer.files import locked, write_text

if TYPE_CHECKING:  # see keys.py
    from securesystemslib.signer import CryptoSigner

ACCEPTED = f"{RECORDS}/accepted.jsonl"  # an envelope a line
PREDICATE = "urn:attention-pipeline:accepted:v1"


@dataclass(frozen=True)
class Acceptance:
    """What somebody answers for."""

    stage: str
    path: str  # as dvc.yaml lists it
    old: str  # MD5, as in dvc.lock
    new: str
    reason: str
    by: str  # of a signed one the signer's name in signers.yaml


def add_acceptance(root: Path, acceptance: Acceptance, signer: "CryptoSigner | None") -> None:
    """Append it to the accepted edits of the checkout `root`."""
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": acceptance.path, "digest": {"md5": acceptance.new}}],
        "predicateType": PREDICATE,
        "predicate": {**asdict(acceptance), "time": datetime.now(UTC).isoformat(timespec="milliseconds")},
    }
    path = root / ACCEPTED
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent):
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        write_text(path, f"{before}{sealed(statement, signer)}")


def acceptances(text: bytes) -> list[str]:
    """The lines of the accepted edits, each an envelope."""
    return [line for line in text.decode(errors="replace").splitlines() if line.strip()]


def acceptance_in(line: str, policy: Policy | None) -> tuple[Acceptance, bool]:
    """An accepted edit, and whether the one who may has signed it.

    Raises:
        DataError: it is malformed or forged, or by a signer who may not sign the stage.
    """
    found = opened(line, ACCEPTED)
    try:
        content: dict[str, Any] = dict(found.statement["predicate"])
        del content["time"]
        acceptance = Acceptance(**content)
        if found.statement["predicateType"] != PREDICATE or not all(isinstance(one, str) for one in content.values()):
            raise DataError(f"{ACCEPTED}: {json.dumps(content)[:80]} is not an accepted edit")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{ACCEPTED}: not an accepted edit: {type(error).__name__} {error}") from None
    if policy is None or not found.envelope.signatures:
        return acceptance, False
    name = policy.signer_of(found.envelope)
    if not policy.signers[name].may_sign(acceptance.stage):
        raise DataError(f"{name} may not sign the stage {acceptance.stage} ({POLICY})")
    return Acceptance(**{**asdict(acceptance), "by": name}), True
