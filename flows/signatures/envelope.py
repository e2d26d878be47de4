"""DSSE envelopes: a statement and who signed it, on one line of JSON."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.checkout.workspace import RECORDS
from transformer.errors import DataError

if TYPE_CHECKING:  # see keys.py
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import Signer

PAYLOAD_TYPE = "application/vnd.in-toto+json"
SUFFIX = ".intoto.jsonl"  # as in-toto's bundles are called


def envelope_name(stage: str) -> str:
    """Where the envelope of a stage's record is in a checkout, beside the record."""
    return f"{RECORDS}/{stage}{SUFFIX}"


@dataclass(frozen=True)
class Sealed:
    """An envelope with the statement in it."""

    envelope: "Envelope"
    statement: dict[str, Any]


def sealed(statement: dict[str, Any], signer: "Signer | None") -> str:
    """The envelope as a line of text; without a signer one that nobody signed."""
    from securesystemslib.dsse import Envelope

    payload = json.dumps(statement, separators=(",", ":"), ensure_ascii=False).encode()
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    if signer is not None:
        envelope.sign(signer)
    return json.dumps(envelope.to_dict(), separators=(",", ":"), sort_keys=True) + "\n"


def opened(text: str | bytes, origin: str) -> Sealed:
    """What is in an envelope, not yet verified; `origin` names it in errors.

    Raises:
        DataError: it is malformed.
    """
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import FormatError

    try:
        envelope = Envelope.from_dict(json.loads(text))
        if envelope.payload_type != PAYLOAD_TYPE:
            raise ValueError(f"its type is {envelope.payload_type}")
        statement = json.loads(envelope.payload)
        if not isinstance(statement, dict):
            raise ValueError("it holds no statement")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, FormatError) as error:
        raise DataError(f"{origin} is not a signed statement: {type(error).__name__} {error}") from None
    return Sealed(envelope, statement)


def envelope_file(root: Path, stage: str) -> Path:
    """The same in the checkout `root`."""
    return root / envelope_name(stage)
