"""Does the log of records hold every line that it ever held, and a line for each record?"""

from collections.abc import Iterator
from itertools import pairwise

from flows.lineage.chain import Chain
from flows.lineage.checks.link import Link, Status, broken, missing
from flows.lineage.project import Project
from flows.lineage.record_search import Found
from flows.signatures.log import LOG, Log, parse_log
from transformer.errors import DataError


def check_log(project: Project, chain: Chain) -> Iterator[Link]:
    """The log of what was asked for, against itself, its older versions and the records."""
    if chain.here or chain.commit:
        yield from _whole(project, chain)
    for step in chain.steps:
        if step.found:
            yield from _listed(project, chain, step.found)


def _whole(project: Project, chain: Chain) -> Iterator[Link]:
    where = f"git {chain.commit[:10]}" if chain.commit else "workspace"
    path, at = project.root / LOG, chain.commit or project.git.commit("HEAD")
    text = project.git.file(chain.commit, LOG) if chain.commit else path.read_bytes() if path.is_file() else None
    older = project.logs.versions(at) if at else {}
    if text is None and not older:
        return  # of before there was one
    try:
        log = parse_log(text or b"", LOG)
    except DataError as error:
        yield broken("", LOG, where, str(error))
        return
    yield from _chained(log, where)
    for commit, version in older.items():
        if lost := version.entries.keys() - log.entries.keys():
            stages = ", ".join(sorted({version.entries[line].stage for line in lost}))
            what = f"{len(lost)} lines of commit {commit[:10]} ({stages}) are gone or rewritten"
            do = f"git show {commit[:10]}:{LOG} >> {LOG}"
            # Older results that were restored, and not committed, bring the log of their time.
            restored = chain.here and any(log.entries.keys() == one.entries.keys() for one in older.values())
            yield (
                missing("", LOG, where, what, do)
                if restored
                else broken("", LOG, where, f"{what}: {do} brings them back")
            )
            return
    yield Link("", LOG, f"{where}, its older versions", Status.OK)


def _chained(log: Log, where: str) -> Iterator[Link]:
    """Every line that a line names is there, and no execution has two records."""
    for entry in log.entries.values():
        if lost := [line for line in entry.previous if line not in log.entries]:
            yield broken(entry.stage, LOG, where, f"before {entry.ended} expected {lost[0]} found nothing")
            return
    known = sorted((one.execution, one.record) for one in log.entries.values() if one.execution)
    for (execution, record), (other, another) in pairwise(known):
        if execution == other and record != another:
            yield broken("", LOG, where, f"{execution} has two records: expected {record} found {another}")
            return
    yield Link("", LOG, where, Status.OK)


def _listed(project: Project, chain: Chain, found: Found) -> Iterator[Link]:
    """The record has a line in the log that lies where it was found, unless that began later."""
    record = found.record
    for where, log in project.logs.beside(found, chain.here, project.tip(chain)):
        if log.of(record):
            yield Link(record.stage, "record", where, Status.OK)
        elif log.began and record.ended >= log.began:
            yield broken(record.stage, "record", where, f"expected {record.expected_digest} found nothing")
