"""prefect.yaml's deployments on the server: what changed in the file goes there, what a person changed there stays.

For each deployment a Prefect variable keeps what was last brought there, by the hash of each setting. A setting that
differs from that on the server was edited by hand. It stays, with a note, unless the file is to win (`overwrite`).
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.utilities.templating import apply_values

from flows.server.deployment_settings import comparable, settings_in_file, settings_on_server
from transformer.errors import ParamsError, UserError
from transformer.yaml12 import InvalidYamlError, read_yaml

FILE = Path("prefect.yaml")
VARIABLE = "deployed-"  # and the hash of the deployment's name
BY_SERVER = "changed on the server, and stays so"
UNFINISHED = [StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING]

Content = dict[str, Any]


@dataclass(frozen=True)
class _Deployed:
    """What was last brought to the server: the deployment's id, and the hash of each setting."""

    id: str
    hashes: dict[str, str]


def deploy(client: SyncPrefectClient, overwrite: bool = False) -> Iterator[str]:
    """Bring the deployments of prefect.yaml to the server; yields a note for each thing that a person should know.

    Raises:
        ParamsError: prefect.yaml is missing or wrong; nothing was done.
        UserError: Prefect does not take it.
    """
    content = _read(FILE)
    known = _known(client)
    merged: dict[str, Content] = {}
    for wanted in content["deployments"]:
        name, before = wanted["name"], known.get(wanted["name"])
        live = _find(client, wanted, before)
        if live is None and before and before.hashes == _hashes(wanted) and not overwrite:
            yield f"{name}: deleted on the server, and stays so; {_cure()}"
            continue
        kept = _kept(wanted, live, before) if live and not overwrite else {}
        for field in kept:
            yield f"{name}: {field} {BY_SERVER}; {_cure()}"
        merged[wanted["name"]] = {**wanted, **kept}
    if merged:
        _run_prefect_deploy({**content, "deployments": list(merged.values())})
    for wanted in content["deployments"]:
        if brought := merged.get(wanted["name"]):
            live = _deployed(client, wanted, known.get(wanted["name"]))
            if not brought.get("schedules"):  # which Prefect takes for: leave the former ones
                for schedule in live.schedules or []:
                    client.delete_deployment_schedule(live.id, schedule.id)
            _remember(client, wanted, live, known.get(wanted["name"]))
    yield from _prune(client, {wanted["name"] for wanted in content["deployments"]}, known)


def _cure() -> str:
    return "python -m flows.server.setup --overwrite makes it what prefect.yaml says"


def _read(path: Path) -> Content:
    """The file, checked, with its placeholders filled in; Prefect itself skips what it can't read."""
    try:
        content = read_yaml(path)
    except FileNotFoundError:
        raise ParamsError(f"{path} is missing: git checkout {path}") from None
    except InvalidYamlError as error:
        raise ParamsError(str(error)) from None
    entries = content.get("deployments") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise ParamsError(f"{path}: deployments must be a list")
    names: set[str] = set()
    for number, entry in enumerate(entries):
        where = f"{path}: deployments[{number}]"
        missing = [key for key in ("name", "entrypoint") if not isinstance(entry, dict) or not entry.get(key)]
        if missing:
            raise ParamsError(f"{where} has no {' and no '.join(missing)}")
        if entry["name"] in names:
            raise ParamsError(f"{where}: a second deployment is named {entry['name']!r}")
        names.add(entry["name"])
    filled: Content = apply_values(content, dict(os.environ), remove_notset=False)
    for entry in filled["deployments"]:
        try:
            settings_in_file(entry)
        except (ValueError, TypeError, AttributeError) as error:
            raise ParamsError(f"{path}: deployment {entry['name']!r}: {' '.join(str(error).split())}") from None
    return filled


def _find(client: SyncPrefectClient, wanted: Content, before: _Deployed | None) -> DeploymentResponse | None:
    found = client.read_deployments(
        deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[wanted["name"]]))
    )
    ours = [one for one in found if before and str(one.id) == before.id]
    return next(iter(ours or [one for one in found if one.entrypoint == wanted["entrypoint"]]), None)


def _kept(wanted: Content, live: DeploymentResponse, before: _Deployed | None) -> Content:
    """The settings that a person has changed on the server; without a record, all that differ."""
    there, file = settings_on_server(live), settings_in_file(wanted)
    differ = {field: there[field] for field, value in file.items() if _hash(there[field]) != _hash(value)}
    if before is None:
        return differ
    return {field: value for field, value in differ.items() if _hash(value) != before.hashes.get(field)}


def _run_prefect_deploy(content: Content) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "prefect.yaml")
        path.write_text(json.dumps(content), encoding="utf-8")  # JSON is YAML
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(path)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        print(done.stdout, file=sys.stderr)
        raise UserError(f"{FILE}: prefect deploy ended with status {done.returncode}; its output is above")


def _deployed(client: SyncPrefectClient, wanted: Content, before: _Deployed | None) -> DeploymentResponse:
    live = _find(client, wanted, before)
    if live is None:
        raise UserError(f"{FILE}: Prefect has not made the deployment {wanted['name']!r}")
    return live


def _remember(client: SyncPrefectClient, wanted: Content, live: DeploymentResponse, before: _Deployed | None) -> None:
    """What the file says is what counts as brought there, also where the server's own setting was kept."""
    value = {"deployment": wanted["name"], "id": str(live.id), "hashes": _hashes(wanted)}
    name = _variable(wanted["name"])
    if before is None:
        client.create_variable(VariableCreate(name=name, value=value))
    elif before != _Deployed(value["id"], value["hashes"]):
        client.update_variable(VariableUpdate(name=name, value=value))


def _known(client: SyncPrefectClient) -> dict[str, _Deployed]:
    """What was brought to the server before, by the deployment's name."""
    filters = {"variables": {"name": {"like_": VARIABLE}}, "limit": 200}
    answer = client.request("POST", "/variables/filter", json=filters)
    values = [one["value"] for one in answer.raise_for_status().json() if one["name"].startswith(VARIABLE)]
    return {value["deployment"]: _Deployed(value["id"], value["hashes"]) for value in values}


def _prune(client: SyncPrefectClient, wanted: set[str], known: dict[str, _Deployed]) -> Iterator[str]:
    """Remove from the server what was removed from the file, unless runs of it are unfinished."""
    for name, before in known.items():
        if name in wanted:
            continue
        ours = DeploymentFilter(id=DeploymentFilterId(any_=[UUID(before.id)]))
        if client.read_deployments(deployment_filter=ours):
            state = FlowRunFilterState(type=FlowRunFilterStateType(any_=UNFINISHED))
            runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(state=state), deployment_filter=ours)
            if runs:
                yield f"{name}: no longer in prefect.yaml, but its run {runs[0].name} is unfinished; kept"
                continue
            client.delete_deployment(UUID(before.id))
            yield f"{name}: no longer in prefect.yaml, removed from the server"
        client.delete_variable_by_name(_variable(name))


def _variable(deployment: str) -> str:
    return VARIABLE + hashlib.sha256(deployment.encode()).hexdigest()[:16]


def _hashes(entry: Content) -> dict[str, str]:
    return {field: _hash(value) for field, value in settings_in_file(entry).items()}


def _hash(value: Any) -> str:
    return hashlib.sha256(comparable(value).encode()).hexdigest()[:16]
