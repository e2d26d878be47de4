"""docs/operations.md says what the code does."""

import re
import runpy
from pathlib import Path

import pytest
import yaml

from flows.pipeline.gpu_slot import LEASE_SECONDS
from flows.pipeline.stage_process import RETRY_HELPS
from flows.server.automations import ATTEMPTS, SILENCE
from transformer.errors import ExitCode

CHECKOUT = Path(__file__).parents[2]
TEXT = (CHECKOUT / "docs" / "operations.md").read_text(encoding="utf-8")


def rows(header: str) -> list[list[str]]:
    """The cells of the table with this header."""
    table = TEXT.split(f"\n{header}\n", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[1:]]


def test_the_table_of_exit_statuses_is_the_enum() -> None:
    table = {
        int(status): (name, retried) for status, name, _, retried in rows("| status | name | meaning | retried |")
    }
    assert {status: name for status, (name, _) in table.items()} == {code.value: code.name for code in ExitCode}
    assert {status for status, (_, retried) in table.items() if retried.startswith("yes")} == RETRY_HELPS


def test_the_table_of_deployments_is_prefect_yaml() -> None:
    deployments = yaml.safe_load((CHECKOUT / "prefect.yaml").read_text())["deployments"]
    assert {row[0].strip("`") for row in rows("| deployment | when | what |")} == {
        item["name"] for item in deployments
    }


def test_figures_are_those_of_the_code() -> None:
    assert f"until it has started {ATTEMPTS} times" in TEXT
    assert f"no sign of life for {SILENCE.total_seconds():.0f} s" in TEXT
    assert f"a killed run's slot is free after {LEASE_SECONDS:.0f} s" in TEXT


def test_files_and_modules_that_are_named_exist() -> None:
    for name in re.findall(r"deploy/[\w.-]+", TEXT):
        assert (CHECKOUT / name).is_file(), name
    for name in re.findall(r"python -m ([\w.]+)", TEXT):
        path = CHECKOUT / name.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), name


@pytest.mark.parametrize("name", ["automations", "promote", "serve", "server_setup"])
def test_former_names_of_commands_still_work(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They stand in people's unit files and shell histories."""
    monkeypatch.setattr("sys.argv", [name, "--help"])
    with pytest.raises(SystemExit, match=r"^0$"):
        runpy.run_module(f"flows.{name}", run_name="__main__")
    assert capsys.readouterr().out.startswith("usage: ")


def test_no_server_is_shown_open_to_the_network() -> None:
    assert "0.0.0.0" not in TEXT  # noqa: S104  # it is a word here
    assert "PREFECT_SERVER_API_AUTH_STRING" in TEXT.split("prefect server start")[0]
    services = yaml.safe_load((CHECKOUT / "deploy" / "compose.yaml").read_text())["services"]
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert "PASSWORD" not in str(service.get("command", "")), f"{name}: every user can read command lines"
    assert services["prefect"]["environment"]["PREFECT_SERVER_API_AUTH_STRING"] == "${PREFECT_KEY:?}"


def test_commands_of_the_documentation_hold_no_password() -> None:
    for line in TEXT.splitlines():
        if "user:password@" in line:
            assert line.startswith(("#", "- ", "  ")), line  # in a file of one's own, or in prose
