"""Rows of Table 3 as queued DVC experiments."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import NoSCMError

from flows.ablations.table3 import Ablation
from flows.checkout.git import git
from flows.checkout.site_cache import use_private_site_cache
from flows.checkout.workspace import PARAMS
from flows.records.nested_keys import flatten
from transformer.errors import ParamsError, UserError
from transformer.params import load_params

FAILED = "failed"
REFS = "refs/exps/*/*/*"  # finished experiments: the commit they started from, in two parts, and their name


def queue_ablations(workspace: Path, wanted: Iterable[Ablation]) -> tuple[list[str], list[str]]:
    """Queue what is neither queued, running nor done; returns the names that were queued and those that were not.

    Raises:
        ParamsError: the workspace is not a git checkout, has uncommitted changes, or git has no name for commits.
    """
    _check(workspace)
    params = load_params(workspace / PARAMS).model_dump()
    queued, there = [], []
    use_private_site_cache(workspace)
    try:
        with Repo(str(workspace)) as repo:
            waiting = {name for name, state in states(repo).items() if state != FAILED}
            known = waiting | set(finished(workspace))
            for ablation in wanted:
                if ablation.name in known:
                    there.append(ablation.name)
                    continue
                repo.experiments.run(queue=True, name=ablation.name, params=overrides(params, ablation.params))
                queued.append(ablation.name)
    except NoSCMError:
        raise ParamsError("ablations are DVC experiments: they need a git checkout") from None
    except DvcException as error:
        raise UserError(f"dvc: {' '.join(str(error).split())}") from None
    return queued, there


def overrides(now: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """The arguments of `dvc exp run -S` that turn params.yaml as it is now into the wanted params."""
    present = flatten(now)
    different = {key: value for key, value in flatten(wanted).items() if key not in present or present[key] != value}
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in different.items()]


def finished(workspace: Path) -> dict[str, str]:
    """The commit of each finished experiment by name; of one that ran from several commits, the newest."""
    form = "--format=%(objectname) %(refname:lstrip=4)"
    lines = git(workspace, "for-each-ref", "--sort=committerdate", form, REFS).splitlines()
    return {name: commit for commit, name in (line.split(" ", 1) for line in lines)}


def states(repo: Any) -> dict[str, str]:
    """`queued`, `running` or `failed` for each experiment of DVC's queue that has no result."""
    queue = repo.experiments.celery_queue
    found = {done.entry.name: FAILED for done in queue.iter_failed()}
    found |= {entry.name: "queued" for entry in queue.iter_queued()}
    return found | {entry.name: "running" for entry in queue.iter_active()}


def _check(workspace: Path) -> None:
    if not (workspace / ".git").exists():
        raise ParamsError("ablations are DVC experiments: they need a git checkout")
    if changed := git(workspace, "status", "--porcelain", "--untracked-files=no").splitlines():
        raise ParamsError(
            f"{changed[0][3:]} is changed: commit first, since queued experiments would silently include the change"
        )
    for key in ("user.name", "user.email"):
        try:
            git(workspace, "config", key)
        except UserError:
            raise ParamsError(f"experiments are commits: tell git who you are first (git config {key} …)") from None
