"""Work on another file system, or on one without hard links, fsync of folders or locks: the same bytes."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_disk import NAMESPACE, unavailable
from tiny_inputs import CHECKOUT, TINY_PARAMS
from trainings import tiny_tokens, trained

from flows.restore import copies
from transformer import files
from transformer.files import files_below, link_or_copy, locked, write_text
from transformer.params import Params, params_from

SCRIPT = """
import json, sys
from pathlib import Path
from trainings import trained
from transformer.params import params_from
here = Path(sys.argv[1])
for updates in (10, 20):
    content = json.loads((here / "params.json").read_text())
    content["training"]["updates"] = updates
    trained(here, here / "tokens", params_from(content, "test"))
"""


FULL = """
import json, sys
from pathlib import Path
from trainings import trained
from transformer.errors import trouble_of_the_machine
from transformer.params import params_from
here = Path(sys.argv[1])
content = json.loads((here / "params.json").read_text())
content["training"] |= {"updates": 20, "checkpoint_every_updates": 2}
try:
    trained(here, here / "tokens", params_from(content, "test"))
except OSError as error:
    sys.exit(f"error: {trouble_of_the_machine(error)}")
"""


def params(updates: int) -> Params:
    return params_from({**TINY_PARAMS, "training": {**TINY_PARAMS["training"], "updates": updates}}, "test")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of 20 updates, and their tokens beside them."""
    folder = tmp_path_factory.mktemp("whole")
    trained(folder, tiny_tokens(folder / "t"), params(20))
    return folder


def same(folder: Path, whole: Path) -> bool:
    names = {path.name for path in (whole / "checkpoints").iterdir()}
    return all(
        (folder / "checkpoints" / name).read_bytes() == (whole / "checkpoints" / name).read_bytes() for name in names
    )


@pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
@pytest.mark.parametrize("place", ["work", "checkpoints"])
def test_work_or_outputs_on_a_file_system_of_their_own(tmp_path: Path, whole: Path, place: str) -> None:
    """Trained, and extended from the state, with one of them on a tmpfs."""
    (tmp_path / "params.json").write_text(json.dumps(TINY_PARAMS))
    (tmp_path / "tokens").symlink_to(whole / "t" / "tokens")
    (tmp_path / place).mkdir()
    run = f'mount -t tmpfs none "{tmp_path}/{place}" && "$@" && cp -r "{tmp_path}/checkpoints" "{tmp_path}/found"'
    environment = os.environ | {"PYTHONPATH": f"{CHECKOUT}:{CHECKOUT}/tests/support"}
    command = [*NAMESPACE, "sh", "-c", run, "sh", sys.executable, "-c", SCRIPT, str(tmp_path)]
    subprocess.run(command, cwd=CHECKOUT, env=environment, check=True)
    (tmp_path / "found").rename(tmp_path / "back")
    if place == "work":
        assert same(tmp_path, whole)
    else:
        expected = json.loads((whole / "checkpoints" / "index.json").read_text())
        assert json.loads((tmp_path / "back" / "index.json").read_text()) == expected


@pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_room_for_a_checkpoint_is_one_line_and_with_room_it_goes_on(tmp_path: Path, whole: Path) -> None:
    """The weights find room, the state after them does not."""
    (tmp_path / "params.json").write_text(json.dumps(TINY_PARAMS))
    (tmp_path / "tokens").symlink_to(whole / "t" / "tokens")
    work = tmp_path / "work"
    work.mkdir()
    run = f'mount -t tmpfs -o size=400k none "{work}"; "$@"; mount -o remount,size=1g "{work}" && "$@"'
    environment = os.environ | {"PYTHONPATH": f"{CHECKOUT}:{CHECKOUT}/tests/support"}
    command = [*NAMESPACE, "sh", "-c", run, "sh", sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, check=True, capture_output=True, text=True)
    told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    assert told[0].endswith("no room is left on the disk; make room and start again to continue")
    assert "Traceback" not in done.stderr
    last = "update-00000020.safetensors"
    assert (tmp_path / "checkpoints" / last).read_bytes() == (whole / "checkpoints" / last).read_bytes()


@pytest.mark.parametrize("answer", [errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EXDEV])
def test_without_hard_links(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, answer: int) -> None:
    """As vfat, SMB and a file with too many links answer, and two mounts."""

    def link(source: object, target: object) -> None:
        raise OSError(answer, os.strerror(answer))

    monkeypatch.setattr(os, "link", link)
    for updates in (10, 20):  # the second one goes on from a copy of the first one's state
        trained(tmp_path, whole / "t" / "tokens", params(updates))
    assert same(tmp_path, whole)
    assert len(list((tmp_path / "work").iterdir())) == 2


def test_without_fsync_and_locks(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", refuse)
    monkeypatch.setattr(fcntl, "flock", refuse)
    files._tell_once.cache_clear()
    trained(tmp_path, whole / "t" / "tokens", params(20))
    assert same(tmp_path, whole)
    assert caplog.text.count("the file system has no locks") == 1


def test_a_disk_that_fails_is_still_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        write_text(tmp_path / "text", "text")
    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OSError, match="Input/output error"), locked(tmp_path / "lock"):
        pass


def test_a_copy_in_place_of_a_link_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"content")
    link_or_copy(tmp_path / "file", tmp_path / "linked")
    assert (tmp_path / "linked").stat().st_ino == (tmp_path / "file").stat().st_ino
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(errno.EPERM, "no")))
    link_or_copy(tmp_path / "file", tmp_path / "copied")
    assert (tmp_path / "copied").read_bytes() == b"content"
    assert {path.name for path in files_below(tmp_path)} == {"file", "linked", "copied"}


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="there is no second file system")
def test_what_is_damaged_is_set_aside_on_another_file_system(tmp_path: Path) -> None:
    shm = Path("/dev/shm")
    if shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("the same file system")
    output, there = tmp_path / "models", shm / f"{os.getpid()}-damaged" / "models"
    output.mkdir()
    (output / "file").write_bytes(b"damaged")
    try:
        copies._set_aside(output, there)
        assert (there / "file").read_bytes() == b"damaged"
        assert not output.exists()
    finally:
        copies._remove(there.parent)
