"""Deployments on a real server after prefect.yaml, or a person there, has changed them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, Running
from prefect_server import PrefectServer

from flows.server.deployments import deploy
from transformer.errors import ParamsError

TOY = """
from prefect import flow

@flow
def toy(n: int = 1, m: int = 1) -> None:
    '''The description of the flow.'''
"""
CURE = "python -m flows.server.setup --overwrite makes it what prefect.yaml says"
KEPT = f"changed on the server, and stays so; {CURE}"

Entry = dict[str, Any]


def entry(name: str, **settings: Any) -> Entry:
    return {"name": name, "entrypoint": "toy.py:toy", "work_pool": {"name": "local"}, **settings}


# Every kind of setting, in every form that prefect.yaml takes it in.
WEEKLY = entry(
    "weekly",
    description="Every week",
    parameters={"n": 2},
    tags=["b", "a"],
    schedules=[{"cron": "0 3 * * 0", "timezone": "Europe/Berlin"}, {"cron": "0 4 * * *", "active": False}],
    concurrency_limit={"limit": 1, "collision_strategy": "CANCEL_NEW", "grace_period_seconds": 120},
)
HOURLY = entry("hourly", schedules=[{"interval": 3600}, {"rrule": "FREQ=DAILY"}], concurrency_limit=2, paused=True)
PLAIN = entry(
    "plain", work_pool={"name": "local", "work_queue_name": "default", "job_variables": {"env": {"A": "1"}}}
)


class Server:
    """prefect.yaml, the server, and what a person sees and does there."""

    def __init__(self, client: SyncPrefectClient) -> None:
        self.client = client

    def set_up(self, *entries: Entry, overwrite: bool = False) -> list[str]:
        """Write the file, bring it to the server, return the notes."""
        Path("prefect.yaml").write_text(json.dumps({"deployments": entries}))
        return list(deploy(self.client, overwrite))

    def find(self, name: str) -> DeploymentResponse:
        return self.client.read_deployment_by_name(f"toy/{name}")

    def active(self, name: str) -> list[bool]:
        """Of each schedule, in the order of their cron."""
        schedules = self.find(name).schedules
        return [one.active for one in sorted(schedules, key=lambda one: str(one.schedule))]

    def switch_off(self, name: str) -> None:
        found = self.find(name)
        for schedule in found.schedules:
            self.client.update_deployment_schedule(found.id, schedule.id, active=False)

    def change(self, name: str, **settings: Any) -> None:
        self.client.update_deployment(self.find(name).id, DeploymentUpdate(**settings))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("deployments")
    (made / "toy.py").write_text(TOY)
    return made


@pytest.fixture
def server(prefect_server: PrefectServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server on which nothing is deployed."""
    monkeypatch.chdir(folder)
    for name, value in prefect_server.settings.items():
        monkeypatch.setenv(name, value)
    with temporary_settings({PREFECT_API_URL: prefect_server.url}):
        client = prefect_server.client
        if not client.read_work_pools():
            client.create_work_pool(WorkPoolCreate(name="local", type="process"))
        made = Server(client)
        made.set_up()
        yield made


def test_a_second_set_up_changes_nothing_and_says_nothing(server: Server) -> None:
    assert server.set_up(WEEKLY, HOURLY, PLAIN) == []
    names = ("weekly", "hourly", "plain")
    shown = [server.find(name).model_dump(exclude={"updated", "schedules", "last_polled"}) for name in names]
    assert server.set_up(WEEKLY, HOURLY, PLAIN) == []
    assert [server.find(name).model_dump(exclude={"updated", "schedules", "last_polled"}) for name in names] == shown
    assert server.active("weekly") == [True, False]
    assert server.find("hourly").paused
    assert server.find("plain").description == "The description of the flow."
    assert server.set_up(WEEKLY, HOURLY, PLAIN, overwrite=True) == []


def test_what_was_switched_off_stays_off(server: Server) -> None:
    server.set_up(WEEKLY, PLAIN)
    server.switch_off("weekly")
    server.client.pause_deployment(server.find("plain").id)
    for _ in range(2):
        assert server.set_up(WEEKLY, PLAIN) == [f"weekly: schedules {KEPT}", f"plain: paused {KEPT}"]
        assert server.active("weekly") == [False, False]
        assert server.find("plain").paused
    # A new time in the file does not switch it on either.
    later = {**WEEKLY, "schedules": [{"cron": "0 5 * * 0"}]}
    assert server.set_up(later, PLAIN) == [f"weekly: schedules {KEPT}", f"plain: paused {KEPT}"]
    assert server.active("weekly") == [False, False]
    assert server.set_up(later, PLAIN, overwrite=True) == []
    assert (server.active("weekly"), server.find("plain").paused) == ([True], False)
    assert server.set_up(later, PLAIN) == []


def test_what_was_edited_by_hand_stays_and_the_files_other_changes_come(server: Server) -> None:
    server.set_up(WEEKLY)
    server.change("weekly", parameters={"n": 7}, description="By hand", tags=["mine"])
    server.client.update_deployment(server.find("weekly").id, DeploymentUpdate(concurrency_limit=3))
    changed = {**WEEKLY, "description": "From the file", "parameters": {"n": 2, "m": 3}, "schedules": []}
    fields = ("description", "parameters", "tags", "concurrency_limit")  # and its schedules are gone without a word
    assert server.set_up(changed) == [f"weekly: {field} {KEPT}" for field in fields]
    found = server.find("weekly")
    assert (found.parameters, found.description, found.tags, found.schedules) == ({"n": 7}, "By hand", ["mine"], [])
    assert found.global_concurrency_limit is not None
    assert found.global_concurrency_limit.limit == 3
    assert server.set_up(changed, overwrite=True) == []
    found = server.find("weekly")
    assert (found.parameters, found.description, found.tags) == ({"n": 2, "m": 3}, "From the file", ["b", "a"])


def test_changes_of_the_file_come_without_a_word(server: Server) -> None:
    server.set_up(WEEKLY)
    changed = entry("weekly", parameters={"m": 4}, schedules=[{"interval": 60}], paused=True)
    assert server.set_up(changed) == []
    found = server.find("weekly")
    assert (found.parameters, found.paused, found.tags, len(found.schedules)) == ({"m": 4}, True, [], 1)
    assert found.global_concurrency_limit is None


def test_what_the_file_no_longer_has_goes_once_its_runs_have_ended(server: Server) -> None:
    server.set_up(WEEKLY, PLAIN)
    foreign = server.client.create_deployment(server.client.create_flow_from_name("toy"), "somebody-elses")
    run = server.client.create_flow_run_from_deployment(server.find("weekly").id, state=Running())
    note = f"weekly: no longer in prefect.yaml, but its run {run.name} is unfinished; kept"
    assert server.set_up(PLAIN) == [note]
    server.client.set_flow_run_state(run.id, Cancelled(), force=True)
    assert server.set_up(PLAIN) == ["weekly: no longer in prefect.yaml, removed from the server"]
    with pytest.raises(ObjectNotFound):
        server.find("weekly")
    assert server.set_up(PLAIN) == []
    assert server.client.read_deployment(foreign).name == "somebody-elses"


def test_what_was_deleted_on_the_server_stays_away_until_the_file_changes(server: Server) -> None:
    server.set_up(PLAIN)
    server.client.delete_deployment(server.find("plain").id)
    assert server.set_up(PLAIN) == [f"plain: deleted on the server, and stays so; {CURE}"]
    with pytest.raises(ObjectNotFound):
        server.find("plain")
    assert server.set_up({**PLAIN, "parameters": {"n": 3}}) == []
    assert server.find("plain").parameters == {"n": 3}


def test_a_deployment_that_was_not_made_by_a_set_up_counts_as_made_by_hand(server: Server) -> None:
    server.set_up(PLAIN)
    for variable in server.client.read_variables():
        server.client.delete_variable_by_name(variable.name)
    assert server.set_up({**PLAIN, "tags": ["new"]}) == [f"plain: tags {KEPT}"]
    assert server.find("plain").tags == []


WRONG = {
    "deployments: [": "prefect.yaml, line 2: not YAML: did not find expected node content",
    "deployments: 3": "prefect.yaml: deployments must be a list",
    "pull: []": "prefect.yaml: deployments must be a list",
    "deployments: [{name: a}]": "prefect.yaml: deployments[0] has no entrypoint",
    "deployments: [{entrypoint: b}]": "prefect.yaml: deployments[0] has no name",
    "deployments: [{name: a, entrypoint: b}, {name: a, entrypoint: c}]": "a second deployment is named 'a'",
    "deployments: [{name: a, entrypoint: b, schedules: [{crn: x}]}]": "'a': a schedule must have one of",
    "deployments: [{name: a, entrypoint: b, concurrency_limit: {l: 1}}]": "'a': concurrency_limit must name a limit",
}


def test_a_wrong_file_is_named_and_removes_nothing(server: Server) -> None:
    server.set_up(PLAIN)
    for text, message in WRONG.items():
        Path("prefect.yaml").write_text(text)
        with pytest.raises(ParamsError, match=re.escape(message)):
            list(deploy(server.client))
    assert server.find("plain")
