"""`lineage verify`: all checks of a chain, and their exit status."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from flows.checkout.workspace import PARENT
from flows.lineage.chain import UNNAMED_PARENT, Chain
from flows.lineage.checks.accepted import AcceptedEdits
from flows.lineage.checks.commits import check_commits
from flows.lineage.checks.contents import Contents
from flows.lineage.checks.executed import check_executed
from flows.lineage.checks.link import Link, Status, missing, of_parent, while_unfinished, without_unreachable
from flows.lineage.checks.log import check_log
from flows.lineage.checks.mlflow_runs import check_runs
from flows.lineage.checks.records import check_records
from flows.lineage.checks.signatures import check_signatures, policy_of
from flows.lineage.checks.sources import check_sources
from flows.lineage.project import Project


def verify(project: Project, chain: Chain, offline: bool = False) -> list[Link]:
    """Every link of the chain, ordered by stage, then its parent's; MLflow is queried while files are hashed.

    `offline` leaves out what is where this clone can't look.
    """
    links = _links(project, chain)
    if chain.here and (command := project.git.unfinished):
        links = [while_unfinished(link, command) for link in links]
    return [without_unreachable(link) for link in links] if offline else links


def _links(project: Project, chain: Chain) -> list[Link]:
    if not chain.steps:
        fetched = Contents(project, chain).fetched(PARENT) if chain.name == UNNAMED_PARENT else ("", "")
        why = "no record knows its content: its chain ends with its hash"
        return [missing("", chain.name, "records", why, *fetched)]
    with ThreadPoolExecutor(1) as pool:
        runs = pool.submit(lambda: list(check_runs(project, chain)))
        policy, told = policy_of(project, chain.commit)
        local = [*_local(project, chain), *check_signatures(project, chain, policy)]
        links = [*local, *runs.result(), *(told if chain.here or chain.commit else ())]
    links = list(AcceptedEdits(project, chain, policy).applied(links))
    order = {step.stage: number for number, step in enumerate(chain.steps)}
    ordered = sorted(links, key=lambda link: order.get(link.stage, len(order)))
    return [*ordered, *(of_parent(link) for link in _links(project, chain.parent))] if chain.parent else ordered


def _local(project: Project, chain: Chain) -> Iterator[Link]:
    contents = Contents(project, chain)
    yield from contents.check()
    yield from check_records(project, chain)
    yield from check_commits(project, chain)
    yield from check_executed(project, chain)
    yield from check_sources(project, chain, contents)
    yield from check_log(project, chain)


def exit_status(links: list[Link], require_signatures: bool = False) -> int:
    """0: every link is ok; 1: some could not be checked; 2: some are broken, or unsigned where that is not enough."""
    found = {link.status for link in links}
    if require_signatures and Status.UNSIGNED in found:
        return 2
    return 2 if Status.BROKEN in found else 1 if Status.MISSING in found else 0
