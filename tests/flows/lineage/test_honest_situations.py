"""Honest situations, none of which may be called BROKEN: each either verifies or names what isn't known, and why.

A finished project and an experiment of it (another beam), put back between the tests as in the tests of tamperings.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow_server import write_empty_store
from tampered_project import Scene, restore
from workspace import Workspace

from flows.lineage.cli import main
from flows.lineage.committed import compare_with_commit
from flows.lineage.project import Project
from flows.restore.outputs import restore as bring_back

pytestmark = pytest.mark.slow  # three minutes; what they have in common is in the tests of tamperings, too

CHANGED = ("models/averaged", "models/export", "reports/attention", "reports/translations")  # by another beam
RESULTS = ("dvc.lock", "params.yaml", "reports")


@pytest.fixture(scope="module")
def project(reproduced: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The finished project with the experiment s2, whose outputs are kept beside it in `after`."""
    workspace = reproduced.copy_to(tmp_path_factory.mktemp("honest") / "checkout")
    workspace.dvc("exp", "run", "--name", "s2", "--set-param", "decoding.beam=1")
    workspace.send()
    after = workspace.folder.parent / "after"
    for path in (*CHANGED, *RESULTS):
        copy(workspace.folder / path, after / path)
    workspace.git("checkout", "--quiet", ".")
    for path in CHANGED:
        copy(reproduced.folder / path, workspace.folder / path)
    shutil.copytree(workspace.folder, workspace.folder.parent / "pristine", symlinks=True)
    return workspace


def copy(source: Path, target: Path) -> None:
    """Put the file or folder `source` in the place of `target`, with a time of now, by which git sees it."""
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, copy_function=shutil.copy)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


class Everyday(Scene):
    """The project and what its owner does every day."""

    def git(self, *arguments: str) -> str:
        return self.workspace.git(*arguments).strip()

    @property
    def experiment(self) -> str:
        """The ref of s2."""
        return next(
            ref for ref in self.git("for-each-ref", "--format=%(refname)", "refs/exps").split() if "s2" in ref
        )

    def after_experiment(self) -> None:
        """The workspace as `dvc exp run` and `dvc exp apply` leave it."""
        for path in (*CHANGED, *RESULTS):
            copy(self.root.parent / "after" / path, self.root / path)

    def outputs_of_experiment(self) -> None:
        """As `dvc checkout` leaves them."""
        for path in CHANGED:
            copy(self.root.parent / "after" / path, self.root / path)

    def branch(self, name: str = "beams") -> None:
        """A branch with the experiment's results, committed upon HEAD."""
        self.git("checkout", "-q", "-b", name)
        self.after_experiment()
        self.git("commit", "-qam", "another beam")
        self.git("checkout", "-q", "main")
        for path in CHANGED:
            copy(self.root.parent / "pristine" / path, self.root / path)

    def conflicting_branch(self) -> None:
        """Both sides have changed the same lines of dvc.lock."""
        self.branch()
        self.replace("dvc.lock", "          beam: 2", "          beam: 3")
        self.replace("params.yaml", "  beam: 2", "  beam: 3")
        self.git("commit", "-qam", "three")

    def fails(self, *command: str) -> None:
        """A git command that stops for the user to resolve a conflict."""
        self.workspace.run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", *command, succeeds=False)

    def rewrite(self, edit: Callable[[], object] = lambda: None) -> None:
        """The commit that the stages ran at is another one now, and the results are committed upon that."""
        results = self.git("rev-parse", "HEAD")
        self.git("reset", "-q", "--hard", "HEAD~1")
        edit()
        self.git("commit", "-qa", "--amend", "-m", "the same code, amended")
        self.git("checkout", results, "--", *RESULTS)
        self.git("commit", "-qm", "results, rebased")

    def without_experiments(self) -> None:
        """As DVC's experiments are removed."""
        for ref in self.git("for-each-ref", "--format=%(refname)", "refs/exps").split():
            self.git("update-ref", "-d", ref)

    def enter_clone(self, *options: str) -> Workspace:
        """Make a clone the current folder, without caches or an MLflow store."""
        folder = self.root.parent / "clone"
        self.undo.append(lambda: shutil.rmtree(folder, ignore_errors=True))
        self.git("clone", "-q", *options, f"file://{self.root}", str(folder))
        os.chdir(folder)
        return Workspace(folder)


@pytest.fixture
def scene(project: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Everyday]:
    """The untouched project, current folder of this process."""
    project.enter(monkeypatch)
    scene = Everyday(project)
    yield scene
    for action in scene.undo:
        action()
    restore(project.folder.parent / "pristine", project.folder)


@dataclass(frozen=True)
class Situation:
    """What was done, what is asked, and the answer: the status, and words of it."""

    name: str
    do: Callable[[Everyday], object]
    verify: tuple[str, ...] = ()
    status: int = 0
    says: str = ""
    also: str = ""


def nothing(scene: Everyday) -> None:
    """The finished project as it is."""


def from_the_run_cache(scene: Everyday) -> None:
    """`dvc repro` restored what the experiment had made: no stage ran, none left a record."""
    scene.after_experiment()
    scene.git("restore", "reports/lineage")


def without_any_record(scene: Everyday) -> None:
    """Restored from the run cache, and whoever had the record has removed it."""
    from_the_run_cache(scene)
    scene.without_experiments()
    shutil.rmtree(scene.root / ".git" / "logs")
    away = scene.root.parent / "mlflow.db"
    (scene.root / "mlflow.db").rename(away)
    scene.undo.append(lambda: away.rename(scene.root / "mlflow.db"))


def stashed(scene: Everyday) -> None:
    scene.after_experiment()
    scene.git("stash", "-q")
    for path in CHANGED:
        copy(scene.root.parent / "pristine" / path, scene.root / path)


def committed(scene: Everyday) -> None:
    scene.after_experiment()
    scene.git("commit", "-qam", "another beam")


def on_detached_head(scene: Everyday) -> None:
    scene.git("checkout", "-q", "--detach")
    committed(scene)


def amended(scene: Everyday) -> None:
    committed(scene)
    scene.git("commit", "-q", "--amend", "-m", "in better words")


def older_results_again(scene: Everyday) -> None:
    committed(scene)
    scene.git("checkout", "HEAD~1", "--", *RESULTS)
    for path in CHANGED:
        copy(scene.root.parent / "pristine" / path, scene.root / path)


def squash_merged(scene: Everyday) -> None:
    scene.branch()
    scene.git("merge", "-q", "--squash", "beams")
    scene.git("commit", "-qm", "squashed")
    scene.git("branch", "-qD", "beams")
    scene.git("update-ref", "-d", scene.experiment)
    scene.outputs_of_experiment()


def merged(scene: Everyday) -> None:
    scene.branch()
    scene.git("merge", "-q", "--no-ff", "-m", "merged", "beams")
    scene.outputs_of_experiment()


def cherry_picked(scene: Everyday) -> None:
    scene.branch()
    (scene.root / "notes.txt").write_text("notes\n")
    scene.git("add", "notes.txt")
    scene.git("commit", "-qm", "notes")
    scene.git("cherry-pick", "beams")
    scene.outputs_of_experiment()


def rewritten_and_pruned(scene: Everyday) -> None:
    scene.rewrite()
    scene.without_experiments()
    shutil.rmtree(scene.root / ".git" / "logs")
    (scene.root / ".git" / "ORIG_HEAD").unlink(missing_ok=True)
    scene.git("prune", "--expire=now")


def code_commit_amended(scene: Everyday) -> None:
    """The last commit's message is changed before the results of a run are committed."""
    scene.git("reset", "-q", "--soft", "HEAD~1")
    scene.git("restore", "-q", "--staged", ".")
    scene.git("commit", "-q", "--amend", "-m", "in better words")


def one_commit(scene: Everyday) -> None:
    """All history in one commit, as when a repository is published."""
    tree = scene.git("write-tree")
    scene.git("update-ref", "refs/heads/main", scene.git("commit-tree", "-m", "all of it", tree))


def another_main(scene: Everyday) -> None:
    scene.git("branch", "-qm", "main", "trunk")
    scene.git("update-ref", "refs/heads/main", scene.git("commit-tree", "-m", "other", scene.git("write-tree")))


def half_merged(scene: Everyday) -> None:
    scene.branch()
    scene.git("merge", "-q", "--no-ff", "--no-commit", "beams")


def conflict(*command: str) -> Callable[[Everyday], object]:
    def do(scene: Everyday) -> None:
        scene.conflicting_branch()
        scene.fails(*command)

    return do


def resolved_but_not_committed(scene: Everyday) -> None:
    scene.conflicting_branch()
    scene.fails("merge", "beams")
    scene.git("checkout", "--theirs", "--", "dvc.lock", "params.yaml")


def contradicted(scene: Everyday) -> None:
    """Nothing of the workspace, the index or the untracked files is as the commit has it."""
    scene.record("train", lambda record: record.update(seed=7), forge=True)
    scene.write("reports/lineage/average.json", b"{")
    scene.record("evaluate", lambda record: record["outputs"][0].update(md5="0" * 32 + ".dir"), forge=True)
    shutil.rmtree(scene.root / "models")
    scene.replace("params.yaml", "updates: 40", "updates: 41")
    for path in ("transformer/model/layers.py", "flows/stages/train.py", "data/corpora.yaml", "tiny/train.en"):
        scene.flip(path)
    scene.git("add", "-u")
    scene.replace("dvc.yaml", "-m flows.stages.train", "-m flows.stages.trian")
    scene.write("dvc.lock", b"stages: [\n")
    scene.write("params.yaml", b"training: [\n")
    scene.flip("reports/metrics.json")
    (scene.root / "transformer" / "model" / "another.py").write_text("another = 1\n")
    (scene.root / "HEAD.txt").write_text("HEAD\n")


def litter(scene: Everyday) -> None:
    """What desktops and editors leave behind."""
    for path in ("models/averaged/.DS_Store", "transformer/model/.DS_Store", "data/raw/tiny/.DS_Store", "dvc.yaml~"):
        (scene.root / path).write_bytes(b"litter")
    (scene.root / "transformer" / "model" / ".layers.py.swp").write_bytes(b"litter")


def remote(scene: Everyday, folder: str = "not there") -> None:
    (scene.root / ".dvc" / "config").write_text(
        f"[core]\n    remote = store\n['remote \"store\"']\n    url = /{folder}\n"
    )


def removed(path: str) -> Callable[[Everyday], object]:
    def do(scene: Everyday) -> None:
        found = scene.root / path
        shutil.rmtree(found) if found.is_dir() else found.unlink()

    return do


def cloned(*options: str) -> Callable[[Everyday], object]:
    return lambda scene: scene.enter_clone(*options)


def deepened(scene: Everyday) -> None:
    scene.enter_clone("--depth", "1").git("fetch", "-q", "--unshallow")


def clone_without_attributes(scene: Everyday) -> None:
    """A clone of a commit of before .gitattributes, on a machine that writes CR LF."""
    scene.git("rm", "-q", ".gitattributes")
    scene.git("commit", "-qm", "as before")
    scene.enter_clone("-c", "core.autocrlf=true")


def clone_with_its_own_store(scene: Everyday) -> None:
    clone = scene.enter_clone()
    write_empty_store(clone.folder / "work")
    shutil.move(clone.folder / "work" / "mlflow.db", clone.folder)


def worktree(scene: Everyday) -> None:
    folder = scene.root.parent / "clone"
    scene.undo.append(lambda: shutil.rmtree(folder))
    scene.git("worktree", "add", "-q", "--detach", str(folder))
    os.chdir(folder)


OFFLINE = ("--offline",)
NOT_COMMITTED = "not committed yet"
SITUATIONS = [
    Situation("untouched", nothing),
    Situation("untouched: HEAD", nothing, ("HEAD",)),
    Situation("untouched: an experiment", nothing, ("s2",)),
    Situation("untouched: offline", nothing, OFFLINE),
    Situation(
        "after dvc exp run or apply",
        Everyday.after_experiment,
        (),
        1,
        "evaluate: record (git) missing: not committed yet: only experiment s2 has it: git add ",
    ),
    Situation("after dvc exp run or apply: HEAD", Everyday.after_experiment, ("HEAD",)),
    Situation(
        "restored from the run cache",
        from_the_run_cache,
        (),
        1,
        "not committed yet: only experiment s2 has it: git restore --source=",
    ),
    Situation(
        "restored from the run cache without any record",
        without_any_record,
        (),
        1,
        "evaluate: record (workspace, git, MLflow) missing: no record has the outputs of dvc.lock: dvc repro --force",
    ),
    Situation("results stashed", stashed),
    Situation("results on another branch", Everyday.branch),
    Situation("results on another branch, asked for", Everyday.branch, ("beams",)),
    Situation("results committed", committed),
    Situation("results committed on a detached HEAD", on_detached_head),
    Situation("amended", amended),
    Situation("older results again", older_results_again, (), 1, NOT_COMMITTED),
    Situation("squash merge", squash_merged),
    Situation("merge", merged),
    Situation("cherry-picked", cherry_picked),
    Situation("rewritten history", Everyday.rewrite),
    Situation("rewritten history: HEAD", Everyday.rewrite, ("HEAD",)),
    Situation("rewritten history, another README", lambda s: s.rewrite(lambda: s.write("README.md", b"other\n"))),
    Situation("rewritten history, pruned", rewritten_and_pruned),
    Situation("rewritten history, cloned", lambda s: (s.rewrite(), s.enter_clone()), OFFLINE),
    Situation("code commit amended", code_commit_amended, (), 1, NOT_COMMITTED),
    Situation("all in one commit", one_commit),
    Situation(
        "results' commit undone",
        lambda s: s.git("reset", "-q", "--soft", "HEAD~1"),
        (),
        1,
        "train: record (git) missing: not committed yet: only experiment s2 has it: git add ",
    ),
    Situation("detached HEAD", lambda s: s.git("checkout", "-q", "--detach")),
    Situation("branch renamed", lambda s: s.git("branch", "-qm", "main", "trunk")),
    Situation("branch renamed, and another has its name", another_main),
    Situation("merge not committed", half_merged, (), 1, "not committed yet, as a merge is unfinished; "),
    Situation("merge in conflict", conflict("merge", "beams"), (), 1, "not committed yet: git merge --continue, or"),
    Situation("merge half resolved", resolved_but_not_committed, (), 1, NOT_COMMITTED),
    Situation("rebase in conflict", conflict("rebase", "beams"), (), 1, "not committed yet: git rebase --continue"),
    Situation("cherry-pick in conflict", conflict("cherry-pick", "beams"), (), 1, "git cherry-pick --abort"),
    Situation("merge in conflict: a branch", conflict("merge", "beams"), ("beams",)),
    Situation("a workspace that contradicts HEAD", contradicted, ("HEAD",)),
    Situation("a workspace that contradicts the experiment", contradicted, ("s2",)),
    Situation("litter", litter),
    Situation("remote not there", remote, (), 1, "models/averaged (remote store) missing: /not there is not there"),
    Situation(
        "remote not there: offline", remote, OFFLINE, 0, "11 outputs in remote store (/not there is not there)"
    ),
    Situation(
        "a folder removed",
        removed("data/tokens"),
        (),
        1,
        "data/tokens (workspace) missing: not there: dvc checkout data/tokens",
    ),
    Situation("a folder removed: offline", removed("data/tokens"), OFFLINE, 1, "0 BROKEN"),
    Situation("a record removed", removed("reports/lineage/train.json"), (), 1, "git restore reports/lineage/train"),
    Situation("a metric removed", removed("reports/metrics.json"), (), 1, "git restore reports/metrics.json"),
    Situation(
        "the cache removed", removed(".dvc/cache"), (), 1, "models/averaged (cache) missing: not there: dvc commit"
    ),
    Situation("clone", cloned(), (), 1, "in this workspace: MLFLOW_TRACKING_URI=", "dvc pull models/averaged"),
    Situation("clone: offline", cloned(), OFFLINE, 0, "1 MLflow (no run store in this workspace)"),
    Situation("clone: HEAD offline", cloned(), ("HEAD", "--offline"), 0, "data that this clone lacks (dvc pull)"),
    Situation("clone of one branch without tags", cloned("--single-branch", "--no-tags"), OFFLINE),
    Situation("shallow clone", cloned("--depth", "1"), (), 1, "this shallow clone has no", ": git fetch --unshallow"),
    Situation(
        "shallow clone: offline",
        cloned("--depth", "1"),
        OFFLINE,
        0,
        "8 commits beyond this shallow clone (git fetch --unshallow)",
    ),
    Situation("shallow clone made deeper", deepened, OFFLINE, 0, "0 missing, 0 BROKEN, 29 left out: 28 data"),
    Situation("clone with core.autocrlf", cloned("-c", "core.autocrlf=true"), OFFLINE),
    Situation(
        "clone with core.autocrlf of before .gitattributes",
        clone_without_attributes,
        OFFLINE,
        1,
        "transformer/model (workspace) missing: equal but for line ends, which git changed: git config core.autocrlf",
    ),
    Situation("clone with its own store", clone_with_its_own_store, OFFLINE, 0, "8 runs that this clone's MLflow"),
    Situation("worktree", worktree, OFFLINE),
]


def test_there_are_enough_and_all_differ() -> None:
    assert len({one.name for one in SITUATIONS}) == len(SITUATIONS) >= 25


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
def test_an_honest_situation_is_not_broken(
    situation: Situation, scene: Everyday, capsys: pytest.CaptureFixture[str]
) -> None:
    situation.do(scene)
    status = main(["verify", *situation.verify])
    printed = capsys.readouterr().out
    assert "BROKEN" not in printed.replace(" 0 BROKEN", ""), printed
    assert status == situation.status, printed
    assert situation.says in printed, printed
    assert situation.also in printed, printed


def rewritten_plumbing(scene: Everyday) -> None:
    """The history has another runner now than that with which the stages ran, and no stage depends on it."""
    scene.rewrite(lambda: scene.replace("flows/stages/runner.py", "\n", "\n\n# another one\n"))
    scene.without_experiments()


def in_pruned_clone(scene: Everyday) -> None:
    rewritten_plumbing(scene)
    scene.enter_clone()


DISHONEST = [
    (
        "a byte in a clone",
        lambda s: Scene(s.enter_clone()).flip("reports/metrics.json"),
        OFFLINE,
        2,
        "(workspace) BROKEN",
    ),
    (
        "the cache, while a merge is unfinished",
        lambda s: (half_merged(s), s.flip(s.object("cache", "data/corpus", "train.parquet"))),
        (),
        2,
        "data/corpus (cache) BROKEN: train.parquet",
    ),
    ("code that only a dropped commit has", rewritten_plumbing, (), 1, "which is in no branch: git branch NAME "),
    ("code that no clone gets", in_pruned_clone, OFFLINE, 1, "imported code (git "),
]


@pytest.mark.parametrize(
    ("do", "verify", "status", "says"), [case[1:] for case in DISHONEST], ids=[case[0] for case in DISHONEST]
)
def test_a_dishonest_one_is_not_taken_for_honest(
    do: Callable[[Everyday], object],
    verify: tuple[str, ...],
    status: int,
    says: str,
    scene: Everyday,
    capsys: pytest.CaptureFixture[str],
) -> None:
    do(scene)
    found = main(["verify", *verify])
    printed = capsys.readouterr().out
    assert says in printed, printed
    assert found == status, printed


def test_a_revision_is_shown_and_compared_as_if_there_were_no_workspace(
    scene: Everyday, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = (["show", "HEAD", "--json"], ["show", "s2"], ["diff", "HEAD", "s2", "--json"])

    def answers() -> list[str]:
        return [capsys.readouterr().out for question in questions if main(question) == 0]

    before = answers()
    contradicted(scene)
    assert answers() == before
    assert len(before) == len(questions)
    assert json.loads(before[2])["params"] == {"decoding.beam": [2, 1]}
    found = {step["found"] for step in json.loads(before[0])["steps"]}
    assert found == {f"commit {scene.git('rev-parse', 'HEAD')[:10]}"}


def test_a_model_that_is_not_quite_one_names_the_nearest(
    scene: Everyday, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = shutil.copytree(scene.root / "models" / "averaged", tmp_path / "copy")
    count = len(list(model.iterdir()))
    (model / ".DS_Store").write_bytes(b"x")
    assert main(["verify", str(model)]) == 3
    told = capsys.readouterr().err
    assert "nearest is models/averaged of average, " in told
    assert told.endswith(f" with {count} of its {count} files: .DS_Store is not one of its files\n")
    (model / "config.json").write_text("{}")
    (model / "spm.model").unlink()
    assert main(["show", str(model)]) == 3
    words = (
        f"{count - 2} of its {count} files: .DS_Store is not one of its files, config.json differs, spm.model is mis"
    )
    assert words in capsys.readouterr().err


def test_litter_makes_no_other_output(scene: Everyday) -> None:
    """Neither for the last line of `make repro` nor for `make undo`, as for DVC."""
    litter(scene)
    found = compare_with_commit(Project(scene.root))
    assert found is not None
    assert (found.differing, found.missing) == ({}, [])
    assert bring_back(scene.root, []).lines == []
    scene.flip("models/averaged/config.json")
    found = compare_with_commit(Project(scene.root))
    assert found is not None
    assert found.differing == {"average": ["models/averaged"]}


def test_a_slip_in_a_name_is_answered_with_close_ones(scene: Everyday, capsys: pytest.CaptureFixture[str]) -> None:
    scene.git("branch", "another-beam")
    for asked, close in (("modles/averaged", "models/averaged"), ("anoter-beam", "another-beam"), ("s22", "s2")):
        assert main(["show", asked]) == 3
        assert f"; close to it: {close}" in capsys.readouterr().err
    assert main(["show", "nothing like it at all"]) == 3
    assert "close to it" not in capsys.readouterr().err


def test_of_experiments_of_one_name_that_of_head_counts(scene: Everyday, capsys: pytest.CaptureFixture[str]) -> None:
    older = scene.git("rev-parse", "HEAD~1")
    for name in ("s2", "twice"):
        scene.git("update-ref", f"refs/exps/{older[:2]}/{older[2:]}/{name}", older)
    scene.git("update-ref", f"refs/exps/{'0' * 2}/{'1' * 38}/twice", older)
    assert main(["verify", "s2"]) == 0
    capsys.readouterr()
    assert main(["verify", "twice"]) == 3
    assert "'twice' names 2 experiments: name one of refs/exps/00/1" in capsys.readouterr().err
