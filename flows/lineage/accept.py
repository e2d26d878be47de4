"""`lineage accept`: somebody answers for that an edit of code changes no result."""

import getpass
from collections.abc import Iterator

from flows.lineage.chain import Chain
from flows.lineage.project import Project
from flows.records.dvc_files import owner_of
from flows.records.hashes import hash_tracked
from flows.records.record import md5s
from flows.signatures.acceptance import Acceptance, add_acceptance
from flows.signatures.keys import load_signer
from transformer.errors import ParamsError
from transformer.section import did_you_mean


def accept(project: Project, chain: Chain, what: str, reason: str) -> Iterator[str]:
    """Accept the edits of a stage's code, or of a path for every stage that depends on it; a line for each.

    Raises:
        ParamsError: there is no such stage or path, nothing was edited, or the reason or the key is wrong.
    """
    words = " ".join(reason.split())
    if not words:
        raise ParamsError("--reason is empty: say why no result changes, for whoever reads it in a year")
    signer = load_signer()
    name = (project.git.run("config", "user.name") or b"").decode().strip() or getpass.getuser()
    edits = list(_edits(chain, project, what.rstrip("/"), words, name))
    for edit in edits:
        add_acceptance(project.root, edit, signer)
        signed = "" if signer else " (unsigned: lineage keygen makes a key)"
        yield f"accepted: {edit.stage}: {edit.path} {edit.old[:10]} → {edit.new[:10]}: {words}{signed}"


def _edits(chain: Chain, project: Project, what: str, reason: str, by: str) -> Iterator[Acceptance]:
    known, edited = set[str](), False
    for step in chain.steps:
        ran_with = md5s(step.record.inputs) if step.record else step.inputs
        for path, old in ran_with.items():
            if chain.maker(path):
                continue
            known |= {step.stage, path}
            if what not in (step.stage, path) and owner_of(what, {path: ""}) is None:
                continue
            known.add(what)
            file = project.root / path
            if file.exists() and (new := hash_tracked(file).md5) != old:
                edited = True
                yield Acceptance(step.stage, path, old, new, reason, by)
    if what not in known:
        raise ParamsError(f"{what} is neither a stage nor code that one depends on{did_you_mean(what, known)}")
    if not edited:
        raise ParamsError(f"there is nothing to accept: {what} is what the stages ran with")
