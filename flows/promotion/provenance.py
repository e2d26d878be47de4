"""Is a model signed as params and signers.yaml demand it, before it becomes champion?"""

from collections.abc import Callable
from pathlib import Path

from flows.checkout.workspace import MODEL
from flows.lineage.checks.link import Status
from flows.lineage.checks.signatures import SIGNATURE, check_signatures, policy_of, signer_in
from flows.lineage.project import Project
from flows.lineage.targets import resolve
from flows.promotion.registered_model import Version
from flows.signatures.policy import POLICY
from transformer.errors import UserError
from transformer.params import PromotionParams

DEMANDED = "promotion.require_signatures is true"


def demanded(promotion: PromotionParams, main: Path, folder: Path, model: str) -> Callable[[Version], str | None]:
    """What `unsigned` says of versions of the registered `model`, if params demand it."""
    if not promotion.require_signatures:
        return lambda _: None
    return lambda version: unsigned(main, folder, f"{model}/{version.number}" if version.number.isdigit() else MODEL)


def unsigned(main: Path, folder: Path, target: str) -> str | None:
    """Why the model may not become champion; None if each record behind it is signed by who may.

    Args:
        main: the checkout whose committed signers.yaml counts: the candidate's own branch may have another.
        folder: the checkout that `target`, as of `lineage`, is looked for in.
        target: the model.
    """
    try:
        policy, _ = policy_of(Project(main), None)
        if policy is None:
            return f"{DEMANDED}, and {main / POLICY} is missing or wrong"
        project = Project(folder, main)
        chain = resolve(project, target)
        links = [link for one in chain.generations() for link in check_signatures(project, one, policy)]
        made = chain.maker(MODEL)
    except UserError as error:
        return f"{DEMANDED}: {error}"
    bad = next((link for link in links if link.what == SIGNATURE and link.status is not Status.OK), None)
    if bad:
        return f"{DEMANDED}: {bad.stage}: {bad.what} ({bad.where}) {bad}"
    if lost := [step.stage for one in chain.generations() for step in one.steps if step.found is None]:
        return f"{DEMANDED}: {lost[0]} has no record"
    if made is None or made.record is None:
        return f"{DEMANDED}: no record says who made {target}"
    branch, names = made.record.code.branch or "", {signer_in(link) for link in links if link.stage == made.stage}
    if not any(policy.signers[name].may_promote(branch) for name in names):
        return f"{DEMANDED}: {POLICY} lets nobody who signed {made.stage} promote models of the branch {branch!r}"
    return None
