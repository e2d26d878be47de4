"""A record as others read it: an in-toto Statement v1 with SLSA's provenance predicate v1."""

from pathlib import Path
from typing import Any

from flows.records.hashes import DIRECTORY_SUFFIX
from flows.records.record import Artifact, Record, record_path
from flows.signatures.log import LOG

STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:attention-pipeline:stage:v1"
BUILDER = "urn:attention-pipeline:dvc"


def statement_of(record: Record, line: str) -> dict[str, Any]:
    """The statement about an execution; `line` is the hash of its line in the log."""
    name = record_path(Path(), record.stage).as_posix()
    commit = [{"name": "git", "digest": {"gitCommit": record.code.commit}}] if record.code.commit else []
    return {
        "_type": STATEMENT,
        "subject": described(record.outputs),
        "predicateType": PROVENANCE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"stage": record.stage, "command": record.command, "params": record.params},
                "internalParameters": {"seed": record.seed, "changes": record.code.changes},
                "resolvedDependencies": [*described(record.inputs), *commit],
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": {"python": record.machine.python}},
                "metadata": {
                    "invocationId": record.runs.spool,
                    "startedOn": record.started,
                    "finishedOn": record.ended,
                },
                # The record without runs.mlflow, which is filled in later; the line without its end.
                "byproducts": [
                    {"name": name, "digest": {"sha256": record.expected_digest}},
                    {"name": LOG, "digest": {"sha256": line}},
                ],
            },
        },
    }


def described(artifacts: list[Artifact]) -> list[dict[str, Any]]:
    """in-toto's descriptors: the SHA-256 of a file, of a folder its dirHash, which is what records hold."""
    return [
        {"name": one.path, "digest": {"dirHash" if one.md5.endswith(DIRECTORY_SUFFIX) else "sha256": one.sha256}}
        for one in artifacts
    ]


def line_of(statement: dict[str, Any]) -> str:
    """The hash of the log's line that a statement names.

    Raises:
        KeyError, TypeError, IndexError: it is not one of ours.
    """
    return str(statement["predicate"]["runDetails"]["byproducts"][1]["digest"]["sha256"])
