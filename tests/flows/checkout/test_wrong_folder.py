"""Commands that are started in a folder that is no checkout: one line, and nothing is made there."""

import importlib
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("flows.states", []),
        ("flows.tracking.send", ["--wait"]),
        ("flows.restore.__main__", []),
        ("flows.promotion.__main__", ["--dry-run"]),
        ("flows.summary", []),
        ("flows.lineage.cli", ["verify"]),
    ],
)
def test_it_is_named_and_left_empty(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    module: str,
    options: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [module, *options])
    main = importlib.import_module(module).main
    try:
        status = main()
    except SystemExit as ended:
        status = ended.code
    told = capsys.readouterr().err or str(status)
    assert f"there is no dvc.yaml in {tmp_path}: run this in the root of a checkout" in told
    assert status
    assert list(tmp_path.iterdir()) == []
