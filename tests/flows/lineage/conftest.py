"""The published project that is tampered with, and its way back."""

import shutil
from collections.abc import Iterator

import pytest
from tampered_project import Scene, restore
from workspace import Workspace


@pytest.fixture(scope="module")
def published(reproduced: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy of the finished project whose data are in a remote, too."""
    workspace = reproduced.copy_to(tmp_path_factory.mktemp("lineage") / "checkout")
    (workspace.folder / ".git" / "info" / "exclude").write_text("/remote/\n")
    workspace.dvc("remote", "add", "--default", "store", "remote")
    workspace.git("commit", "-qam", "a remote")
    workspace.dvc("push")
    shutil.copytree(workspace.folder, workspace.folder.parent / "pristine", symlinks=True)
    return workspace


@pytest.fixture
def scene(published: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """The untouched project, current folder of this process."""
    published.enter(monkeypatch)
    scene = Scene(published)
    yield scene
    for action in scene.undo:
        action()
    restore(published.folder.parent / "pristine", published.folder)
