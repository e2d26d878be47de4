"""A record is written, logged and, where there is a key, signed."""

from pathlib import Path
from typing import TYPE_CHECKING

from flows.records.record import Record, record_path, write_record
from flows.signatures.envelope import envelope_file, sealed
from flows.signatures.log import append, hash_of_line, next_line
from flows.signatures.statement import statement_of
from transformer.files import locked, write_text

if TYPE_CHECKING:  # see keys.py
    from securesystemslib.signer import CryptoSigner


def keep_record(root: Path, record: Record) -> Path:
    """Write the record into the checkout `root`; the envelope of the stage's last one goes, which is not its own."""
    envelope_file(root, record.stage).unlink(missing_ok=True)
    return write_record(root, record)


def attest(root: Path, record: Record, signer: "CryptoSigner | None") -> Path | None:
    """Log a record that is written and, with a signer, sign it: the path of its envelope.

    Raises:
        OSError: a full disk, for instance.
        DataError: the log is malformed.
    """
    envelope = envelope_file(root, record.stage)
    with locked(record_path(root, record.stage).parent):  # stages that run at once append to one log
        line = next_line(root, record, signer.public_key.keyid if signer else None)
        if signer:
            write_text(envelope, sealed(statement_of(record, hash_of_line(line)), signer))
        append(root, line)
    return envelope if signer else None
