"""Does each input and output still have its hash, in the workspace, DVC's cache, its remote, and git?"""

import json
from collections.abc import Iterator
from typing import Any

from flows.checkout.workspace import CHECKPOINTS, MODEL
from flows.lineage.chain import Chain, Step
from flows.lineage.checks.commits import COMMIT_ALL
from flows.lineage.checks.link import Link, Status, broken, compared, missing
from flows.lineage.project import Project
from flows.records.dvc_files import owner_of
from flows.records.dvc_stores import DvcStore
from flows.records.hashes import DIRECTORY_SUFFIX, Hashes, directory_md5, hash_tracked, md5_with_lf
from transformer.errors import DataError
from transformer.files import files_below

NO_DATA = "data that this clone lacks (dvc pull)"


class Contents:
    """Hashes of a chain's contents, each computed once."""

    def __init__(self, project: Project, chain: Chain) -> None:
        self.project = project
        self.chain = chain
        self._workspace: dict[str, Hashes | None] = {}
        self._uncached = _uncached(project, chain)

    def check(self) -> Iterator[Link]:
        """Every output in every place, every input that no stage made, and the model's own list of its parts."""
        for step in self.chain.steps:
            yield from self._inputs(step)
            for path, md5 in step.outputs.items():
                yield from self._output(step, path, md5)
        if self.chain.here:
            yield from self._checkpoints()

    def workspace(self, path: str) -> Hashes | None:
        """The hashes of what is at `path` now; None if nothing is."""
        if path not in self._workspace:
            full = self.project.root / path
            self._workspace[path] = hash_tracked(full) if full.exists() else None
        return self._workspace[path]

    def _inputs(self, step: Step) -> Iterator[Link]:
        for path, md5 in step.inputs.items():
            maker = self.chain.maker(path)
            if maker is None:
                if self.chain.here:
                    yield self._in_workspace(step, path, md5)
                continue
            made = maker.outputs.get(path) or self._inner_md5(maker, path)
            do, beyond = self.fetched(path)
            yield compared(step.stage, path, f"made by {maker.stage}", md5, made, do=do, beyond=beyond)

    def _inner_md5(self, maker: Step, path: str) -> str | None:
        """The MD5 of a file inside a folder that a stage made."""
        folder = owner_of(path, maker.outputs)
        assert folder is not None
        inner = path[len(folder) + 1 :]
        artifact = maker.artifact(folder)
        if artifact and artifact.md5 == maker.outputs[folder]:
            return artifact.files.get(inner)
        return (self.project.stores.cache.listing(maker.outputs[folder]) or {}).get(inner)

    def _output(self, step: Step, path: str, md5: str) -> Iterator[Link]:
        if self.chain.here:
            yield self._in_workspace(step, path, md5)
        if path in self._uncached:
            yield from self._in_git(step, path, md5)
            return
        stores = self.project.stores
        yield self._in_cache(step, path, md5)
        if stores.remote_name:
            where = f"remote {stores.remote_name}"
            if stores.remote_problem:
                yield missing(
                    step.stage,
                    path,
                    where,
                    stores.remote_problem,
                    beyond=f"outputs in {where} ({stores.remote_problem})",
                )
            else:
                yield self._in_store(step, path, md5, stores.remote, f"dvc push {path}")

    def _in_git(self, step: Step, path: str, md5: str) -> Iterator[Link]:
        head = self.project.git.commit("HEAD")
        found = step.found.commit if step.found else None
        if self.chain.here and found not in self.project.git.ancestors(head or ""):
            found = None  # another branch, experiment or stash holds it: that is not HEAD
        commit = self.chain.commit or found
        if commit is None and head:
            locked = self.project.lock_at(head).get(step.stage)
            if locked is None or locked.outputs.get(path) != md5:  # the results of another run are committed, or none
                yield missing(step.stage, path, "git", "not committed yet", COMMIT_ALL)
                return
        if commit := commit or head:
            do = f"git add {path} && git commit" if self.chain.here else ""
            yield compared(step.stage, path, "git", md5, self.project.md5_at(commit, path), do=do)

    def _in_cache(self, step: Step, path: str, md5: str) -> Link:
        do, beyond = self.fetched(path)
        if self.chain.here and (self.project.root / path).exists():
            do, beyond = f"dvc commit {step.stage}", ""
        return self._in_store(step, path, md5, self.project.stores.cache, do, beyond)

    def fetched(self, path: str) -> tuple[str, str]:
        """The command that brings an output into this clone's cache; where it is, if no remote here has it."""
        do = f"dvc pull {path}" if self.chain.here else "dvc fetch --all-commits"
        if self.project.stores.remote_name is None:
            do = f"dvc remote add --default NAME ADDRESS && {do}"
        return do, "" if self.project.stores.remote_answers else NO_DATA

    def _in_workspace(self, step: Step, path: str, md5: str) -> Link:
        found, artifact = self.workspace(path), step.artifact(path)
        if found is None:
            return missing(step.stage, path, "workspace", "not there", *self._brought_here(path, md5))
        if found.md5 != md5 and self._has_other_line_ends(path, md5):
            do = f"git config core.autocrlf false && rm -r {path} && git restore {path}"
            return missing(step.stage, path, "workspace", "equal but for line ends, which git changed", do)
        if found.md5 != md5:
            files = artifact.files if artifact and artifact.md5 == md5 else None
            files = files or self.project.stores.cache.listing(md5) or {}
            return _difference(step.stage, path, "workspace", md5, found.md5, files, found.listing)
        sha256 = artifact.sha256 if artifact and artifact.md5 == md5 else found.sha256
        return compared(step.stage, path, "workspace", sha256, found.sha256, "sha256")

    def _has_other_line_ends(self, path: str, md5: str) -> bool:
        """Whether text that git keeps would have this hash with LF alone: core.autocrlf writes CR LF."""
        if path not in self._uncached and self.chain.maker(path) is not None:
            return False
        full = self.project.root / path
        if full.is_file():
            return md5_with_lf(full) == md5
        return (
            directory_md5({name.relative_to(full).as_posix(): md5_with_lf(name) for name in files_below(full)}) == md5
        )

    def _brought_here(self, path: str, md5: str) -> tuple[str, str]:
        """The command that brings a file or folder back into the workspace; where it is, if this clone has it not."""
        if path in self._uncached or self.chain.maker(path) is None:
            return f"git restore {path}", ""
        if self.project.stores.cache.has(md5):
            return f"dvc checkout {path}", ""
        return self.fetched(path)

    def _in_store(self, step: Step, path: str, md5: str, store: DvcStore, do: str, beyond: str = "") -> Link:
        found = store.md5_of(md5)
        if found is None or found != md5 or not md5.endswith(DIRECTORY_SUFFIX):
            return compared(step.stage, path, store.name, md5, found, do=do, beyond=beyond)
        for name, inner in (store.listing(md5) or {}).items():
            link = compared(step.stage, path, store.name, inner, store.md5_of(inner), name)
            if link.status is Status.MISSING:
                return missing(step.stage, path, store.name, f"{name} is not there", do)
            if link.status is Status.BROKEN:
                return link
        return Link(step.stage, path, store.name, Status.OK)

    def _checkpoints(self) -> Iterator[Link]:
        """The averaged model names its checkpoints and vocabulary by hash, the index of checkpoints its files."""
        for path, key in ((MODEL, "averaged"), (CHECKPOINTS, "checkpoints")):
            step, trained = self.chain.maker(path), self.workspace(CHECKPOINTS)
            if step is None or trained is None or path not in step.outputs:
                continue
            listed = self._listed(path, {"averaged": "averaged.json", "checkpoints": "index.json"}[key])
            if listed is None:
                yield missing(step.stage, path, "its own list", "not there", f"dvc checkout {path}")
                continue
            for entry in listed[key]:
                found = trained.files.get(entry["file"])
                yield compared(
                    step.stage, entry["file"], f"{path}'s own list", entry["sha256"], found and found.sha256
                )
            own = self.workspace(path)
            if "vocabulary" in listed and own and "spm.model" in own.files:
                sha256 = own.files["spm.model"].sha256
                yield compared(step.stage, "spm.model", f"{path}'s own list", listed["vocabulary"], sha256)

    def _listed(self, folder: str, file: str) -> dict[str, Any] | None:
        try:
            listed: dict[str, Any] = json.loads((self.project.root / folder / file).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return listed


def _difference(
    stage: str, path: str, where: str, md5: str, found: str, files: dict[str, str], here: dict[str, str]
) -> Link:
    """Name the file of a folder that differs, if the folder's files are known."""
    for name in sorted(files.keys() | here.keys()) if files else ():
        if files.get(name) != here.get(name):
            expected = files.get(name, "nothing")
            return broken(stage, path, where, f"{name}: expected {expected} found {here.get(name, 'nothing')}")
    return compared(stage, path, where, md5, found)


def _uncached(project: Project, chain: Chain) -> set[str]:
    """The outputs that DVC leaves to git."""
    try:
        return {path for stage in project.definition(chain.commit).values() for path in stage.uncached}
    except DataError:
        return set()  # the check of dvc.yaml itself says so
