"""The stage graph as DVC sees it, with each stage's `meta.prefect` checked."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo
from pydantic import Field, ValidationError

from flows.checkout.site_cache import use_private_site_cache
from flows.pipeline.stale_locks import drop_stale_entries
from transformer.errors import ParamsError
from transformer.section import Section, in_words

log = logging.getLogger(__name__)


class StageSettings(Section):
    """`meta.prefect` of a stage in dvc.yaml; it does not invalidate the stage."""

    retries: int = Field(0, ge=0)
    retry_delay_seconds: float = Field(0, ge=0)
    timeout_seconds: float | None = Field(None, gt=0)
    tags: list[str] = Field(default_factory=list)


@dataclass(frozen=True)
class Stage:
    """A stage under the name that `dvc repro` takes, and the names of the stages it waits for."""

    name: str
    upstreams: tuple[str, ...]
    settings: StageSettings


def read_graph(workspace: Path, targets: list[str] | None = None) -> list[Stage]:
    """The stages that lead to `targets` (default: all), each after those it waits for.

    Also drops entries of DVC's rwlock whose process no longer exists.

    Raises:
        ParamsError: no DVC workspace, a dvc.yaml that DVC refuses, an unknown target or a wrong `meta.prefect`.
        UserError: others can write to DVC's site cache.
    """
    stages = _all_stages(workspace)
    wanted: set[str] = set()
    queue = list(stages) if targets is None else list(targets)
    while queue:
        name = queue.pop()
        if name not in stages:
            raise ParamsError(f"{name} is not a stage; dvc.yaml has {', '.join(stages)}")
        if name not in wanted:
            wanted.add(name)
            queue += stages[name].upstreams
    return [stage for name, stage in stages.items() if name in wanted]


def _all_stages(workspace: Path) -> dict[str, Stage]:
    use_private_site_cache(workspace)
    try:
        with Repo(str(workspace)) as repo:
            graph = repo.index.graph
            for command in drop_stale_entries(repo):
                log.warning("%s no longer runs; what it had locked is free again", command)
            return {_name(stage): _stage(stage, graph) for stage in _upstreams_first(graph)}
    except DvcException as error:
        raise ParamsError(f"{workspace}: {' '.join(str(error).split())}") from None


def _upstreams_first(graph: Any) -> list[Any]:
    """A topological order; independent stages are sorted by name, so that the order is always the same."""
    ordered: list[Any] = []
    left = sorted(graph.nodes, key=_name)
    while left:
        ready = next(stage for stage in left if all(upstream in ordered for upstream in graph.successors(stage)))
        left.remove(ready)
        ordered.append(ready)
    return ordered


def _name(stage: Any) -> str:
    """What `dvc repro` in the workspace's root takes; DVC's own `addressing` depends on the working folder."""
    if stage.is_data_source or not hasattr(stage, "name"):
        return str(stage.path_in_repo)
    return str(stage.name) if stage.path_in_repo == "dvc.yaml" else f"{stage.path_in_repo}:{stage.name}"


def _stage(stage: Any, graph: Any) -> Stage:
    upstreams = tuple(sorted(_name(upstream) for upstream in graph.successors(stage)))
    hints = (stage.meta or {}).get("prefect", {})
    try:
        settings = StageSettings.model_validate(hints)
    except ValidationError as error:
        words = in_words(error, lambda _: f"allowed here: {', '.join(StageSettings.model_fields)}", "meta.prefect")
        raise ParamsError(f"dvc.yaml: stage {_name(stage)}: {words}") from None
    return Stage(_name(stage), upstreams, settings)
