"""Commits, branches and old files of a checkout, read by running git."""

import subprocess
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from transformer.errors import UserError

ANSWER_SECONDS = 60.0  # at most, for a command that only reads
# What git leaves in its folder while a command waits for the user, and that command.
UNFINISHED = {
    "MERGE_HEAD": "merge",
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
}


def git(folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> str:
    """What a git command in `folder` prints.

    Raises:
        UserError: git fails; the message is git's own.
    """
    return _output(folder, arguments, environment=environment).decode(errors="replace").removesuffix("\n")


def _output(
    folder: Path,
    arguments: tuple[str, ...],
    stdin: bytes | None = None,
    environment: dict[str, str] | None = None,
    timeout: float | None = None,
) -> bytes:
    """Run git without the user's hooks, which are meant for the user's own commits, and without replaced objects."""
    command = ["git", "--no-replace-objects", "-c", "core.hooksPath=/dev/null", *arguments]
    try:
        done = subprocess.run(command, cwd=folder, env=environment, input=stdin, capture_output=True, timeout=timeout)
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"git {arguments[0]}: {error}") from None
    if done.returncode != 0:
        words = " ".join(done.stderr.decode(errors="replace").split())
        raise UserError(f"git {arguments[0]}: {words or f'exit status {done.returncode}'}")
    return done.stdout


class Git:
    """The repository of a checkout; outside git every method returns nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.present = (root / ".git").exists()  # an unpacked tarball may lie inside some other repository
        self._blobs: dict[str, bytes | None] = {}
        self._commits: dict[str, str | None] = {}
        self._trees: dict[str, list[str]] = {}
        self._refs: dict[str, list[str]] = {}
        self._ancestors: dict[str, frozenset[str]] = {}

    def run(self, *arguments: str, stdin: bytes | None = None) -> bytes | None:
        """What git prints; None if it fails."""
        if not self.present:
            return None
        try:
            return _output(self.root, arguments, stdin=stdin, timeout=ANSWER_SECONDS)
        except UserError:
            return None

    def commit(self, revision: str) -> str | None:
        """The full id of the commit that a revision names."""
        if revision not in self._commits:
            found = self.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
            self._commits[revision] = found.decode().strip() if found else None
        return self._commits[revision]

    def ancestors(self, tip: str) -> frozenset[str]:
        """The ids of all commits in the history of `tip`, itself included, as far as this clone has it."""
        if tip not in self._ancestors:
            self._ancestors[tip] = frozenset((self.run("rev-list", tip) or b"").decode().split())
        return self._ancestors[tip]

    @cached_property
    def shallow(self) -> bool:
        """Whether the clone was cut off below some commit (`git clone --depth`)."""
        return (self.run("rev-parse", "--is-shallow-repository") or b"").strip() == b"true"

    @cached_property
    def unfinished(self) -> str | None:
        """The command that has begun to change the working folder and waits for the user: merge, rebase, …"""
        for name, command in UNFINISHED.items():
            path = self.run("rev-parse", "--git-path", name)
            if path and (self.root / path.decode().strip()).exists():
                return command
        return None

    def refs(self, *patterns: str) -> dict[str, str]:
        """The refs below the patterns (default: all) with the commits that they name."""
        found = self.run("for-each-ref", "--format=%(objectname) %(refname)", *patterns) or b""
        return {name: commit for commit, _, name in (line.partition(" ") for line in found.decode().splitlines())}

    def refs_with(self, commit: str) -> list[str]:
        """Every ref whose history holds `commit`."""
        if commit not in self._refs:
            found = self.run("for-each-ref", "--contains", commit, "--format=%(refname)") or b""
            self._refs[commit] = found.decode().split()
        return self._refs[commit]

    def file(self, commit: str, path: str) -> bytes | None:
        """The file's content at `commit`."""
        return self.blobs([f"{commit}:{path}"])[0]

    def below(self, commit: str, path: str) -> dict[str, bytes]:
        """The content of each file below a folder at `commit`, by path relative to it."""
        if commit not in self._trees:
            listing = self.run("ls-tree", "-r", "-z", "--name-only", commit) or b""
            self._trees[commit] = [name.decode(errors="replace") for name in listing.split(b"\0") if name]
        names = [name for name in self._trees[commit] if name.startswith(f"{path}/")]
        contents = self.blobs([f"{commit}:{name}" for name in names])
        return {name[len(path) + 1 :]: content or b"" for name, content in zip(names, contents, strict=True)}

    def blobs(self, names: Iterable[str]) -> list[bytes | None]:
        """The content of each object, named by id or as `commit:path`; None for one that does not exist."""
        wanted = list(names)
        if missing := [name for name in dict.fromkeys(wanted) if name not in self._blobs]:
            answer = self.run("cat-file", "--batch", stdin="".join(f"{name}\n" for name in missing).encode())
            self._blobs.update(_parse_batch(missing, answer or b""))
        return [self._blobs[name] for name in wanted]

    def versions(self, folder: str) -> list[tuple[str, str, str]]:
        """(commit, path, object id) of each version of each file below `folder`, newest first.

        Covers all refs, and the commits that refs pointed to before they were moved (the reflog).
        """
        listing = self.run(
            "log",
            "--all",
            "--reflog",
            "HEAD",
            "--raw",
            "--no-abbrev",
            "--no-renames",
            "-m",
            "--format=%H",
            "--",
            folder,
        )
        found: list[tuple[str, str, str]] = []
        commit = ""
        for line in (listing or b"").decode().splitlines():
            if line.startswith(":"):
                fields, _, path = line.partition("\t")
                blob = fields.split()[3]
                if blob.strip("0"):
                    found.append((commit, path, blob))
            elif line:
                commit = line
        return found


def _parse_batch(names: list[str], answer: bytes) -> dict[str, bytes | None]:
    """Split what `git cat-file --batch` prints into the objects asked for."""
    found: dict[str, bytes | None] = dict.fromkeys(names)
    position = 0
    for name in names:
        end = answer.find(b"\n", position)
        if end < 0:
            break
        header = answer[position:end].split()
        position = end + 1
        if header[-1] != b"missing":  # else: id, type, size
            size = int(header[2])
            if header[1] == b"blob":
                found[name] = answer[position : position + size]
            position += size + 1
    return found
