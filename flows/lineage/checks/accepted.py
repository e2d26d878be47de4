"""Edits of code that somebody answers for: what they break is accepted, and nothing else."""

from collections.abc import Iterator
from dataclasses import replace

from flows.checkout.workspace import LOCK
from flows.lineage.chain import Chain, Step
from flows.lineage.checks.link import Link, Status, broken
from flows.lineage.project import Project
from flows.records.hashes import hash_tracked
from flows.records.record import md5s
from flows.signatures.acceptance import ACCEPTED, Acceptance, acceptance_in, acceptances
from flows.signatures.policy import Policy
from transformer.errors import DataError


class AcceptedEdits:
    """The accepted edits of what was asked for."""

    def __init__(self, project: Project, chain: Chain, policy: Policy | None) -> None:
        self._project = project
        self._chain = chain
        self._known: dict[tuple[str, str, frozenset[str]], tuple[Acceptance, bool]] = {}
        self.wrong: list[Link] = []
        path, at = project.root / ACCEPTED, chain.commit or project.git.commit("HEAD")
        here = path.read_bytes() if chain.here and path.is_file() else None
        text = here if chain.here else project.git.file(at, ACCEPTED) if at else None
        for line in acceptances(text or b""):
            try:
                found, signed = acceptance_in(line, policy)
            except DataError as error:
                self.wrong.append(broken("", ACCEPTED, "workspace" if chain.here else "git", str(error)))
            else:
                key = found.stage, found.path, frozenset((found.old, found.new))
                if signed or key not in self._known:
                    self._known[key] = found, signed

    def applied(self, links: list[Link]) -> Iterator[Link]:
        """The links, with those accepted that an accepted edit alone breaks."""
        yield from self.wrong
        for link in links:
            step = self._chain.step(link.stage) if self._known and link.status is Status.BROKEN else None
            yield self._judged(step, link) if step else link

    def _judged(self, step: Step, link: Link) -> Link:
        pairs = dict(self._differing(step, link))
        found = [self._known.get((step.stage, path, pair)) for path, pair in pairs.items()]
        known = [one for one in found if one is not None]
        if not known or len(known) < len(found):
            return link
        words = "; ".join(dict.fromkeys(f"by {one.by}: {one.reason}" for one, _ in known))
        if all(signed for _, signed in known):
            return replace(link, status=Status.ACCEPTED, detail=words)
        return replace(link, status=Status.UNSIGNED, detail=f"accepted {words}, which nobody signed")

    def _differing(self, step: Step, link: Link) -> Iterator[tuple[str, frozenset[str]]]:
        """The paths that the link found different, each with the two hashes."""
        if link.what == "inputs" and link.where.startswith(LOCK) and step.record:
            commit = link.where.removeprefix(f"{LOCK} at ")
            entry = step.locked if link.where == LOCK else self._project.lock_at(commit).get(step.stage)
            one, other = md5s(step.record.inputs), entry.inputs if entry else {}
            for path in one | other:
                if one.get(path) != other.get(path):
                    yield path, frozenset((one.get(path, ""), other.get(path, "")))
        elif link.what in step.inputs and self._chain.maker(link.what) is None:
            found = self._md5(link.where, link.what)
            yield link.what, frozenset((step.inputs[link.what], found or ""))

    def _md5(self, where: str, path: str) -> str | None:
        if where == "workspace":
            file = self._project.root / path
            return hash_tracked(file).md5 if file.exists() else None
        return self._project.md5_at(where.removeprefix("git "), path) if where.startswith("git ") else None
