"""The tags of MLflow's runs that repeat what the records say: tracking sets them, `lineage verify` checks them."""

from flows.records.record import Artifact, Code, Machine

RECORD = "record"  # the record's digest
NO_GIT = "no git"


def hash_tags(kind: str, artifacts: list[Artifact]) -> dict[str, str]:
    """`<kind>.<path>`: SHA-256 of each artifact; kind is `input` or `output`."""
    return {f"{kind}.{one.path}": one.sha256 for one in artifacts}


def code_tags(code: Code) -> dict[str, str]:
    """Commit, branch and whether the checkout differs from the commit; "no git" outside a git checkout."""
    if code.commit is None:
        return {"git.commit": NO_GIT, "git.branch": NO_GIT, "git.dirty": NO_GIT}
    branch = code.branch or NO_GIT
    return {
        "git.commit": code.commit,
        "git.branch": branch,
        "git.dirty": "true" if code.changes else "false",
        "mlflow.source.git.commit": code.commit,
        "mlflow.source.git.branch": branch,
    }


def machine_tags(machine: Machine) -> dict[str, str]:
    """The machine and the versions that matter for the result."""
    return {
        "host.platform": machine.os,
        "host.python": machine.python,
        "host.torch": machine.packages["torch"],
        "host.cpus": str(machine.cores),
        "host.gpus": ", ".join(machine.gpus) or "none",
    }
