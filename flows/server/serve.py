"""`make serve`: the Prefect server with its UI, a worker and the MLflow UI on loopback, until Ctrl-C or SIGTERM.

All of Prefect's state is below work/prefect, so that the next start finds runs, schedules and settings again.
"""

import argparse
import base64
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from flows.checkout.workspace import MLFLOW_UI_VARIABLE, WORK, main_workspace, tracking_uri
from flows.processes.service import Service, ServiceError, adopt_orphans, end_families, orphans
from flows.server.key import CLIENT_VARIABLE, key_file, key_settings, server_key
from flows.server.web import HOST, check_port
from transformer.errors import UserError
from transformer.files import locked, private_folder, shut_to_others
from transformer.stopping import handle_stop_signals

POOL = "local"
NOTE = "note: "  # begins what the set-up has to tell people
HEARTBEAT_SECONDS = 30  # the shortest that Prefect takes
START_SECONDS = 180.0  # a first start creates two databases
SHORT_LIVES = 3  # in a row, after which a service is not started again
STOP_SECONDS = 30.0  # enough for training to save its state
LINGER_SECONDS = 10.0  # for the last records to reach MLflow
RESCHEDULE_SECONDS = 5.0  # for the automation to schedule crashed runs again; runs without attempts left stay crashed


class Serving:
    """The three services of one workspace: starting them in order, keeping them alive, stopping them."""

    def __init__(self, workspace: Path, port: int, mlflow_port: int) -> None:
        home = workspace / WORK / "prefect"
        self.logs = home / "logs"
        self.address, self.mlflow_address = f"http://{HOST}:{port}", f"http://{HOST}:{mlflow_port}"
        self.workspace = workspace
        self.had_key = key_file(home).exists() or not (home / "prefect.db").exists()
        self.key = server_key(home)
        self.environment = _environment(home, f"{self.address}/api") | key_settings(self.key, self.address)
        self.environment.pop("PREFECT_API_KEY", None)  # of Prefect's cloud; some clients would send it instead
        shut_to_others(home)  # what was there before it was private
        self.server = self._service("server", _command("prefect", port), f"{self.address}/api/health")
        worker = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process"]
        self.worker = self._service("worker", [*worker, "--install-policy", "never"])
        self.services = [self.server, self.worker]
        store = tracking_uri()
        if store.startswith("http"):  # a server that somebody else runs
            self.mlflow, self.mlflow_address = None, store
        else:
            self.mlflow = self._service("mlflow", _command("mlflow", mlflow_port), f"{self.mlflow_address}/health")
            self.services.append(self.mlflow)
        self.environment[MLFLOW_UI_VARIABLE] = self.mlflow_address

    def _service(self, name: str, command: list[str], health: str | None = None) -> Service:
        # What runs start keeps the user's umask: their outputs and DVC's cache may be a team's.
        umask = -1 if name in ("worker", "mlflow") else 0o077
        return Service(name, command, self.workspace, self.environment, self.logs / f"{name}.log", health, umask)

    def start(self) -> None:
        """Start everything and print where it is.

        Raises:
            ServiceError: something did not come up; its log is named.
        """
        self.server.start()
        if self.mlflow:
            self.mlflow.start()
        _wait_for(self.server)
        self._set_up_server()
        self.worker.start()
        print(f"Prefect  {self.address}  deployments, runs, approvals; the worker takes runs of the pool {POOL!r}")
        if self.mlflow:
            _wait_for(self.mlflow)
        print(f"MLflow   {self.mlflow_address}  recorded runs, registered models")
        logs, key = self.logs.relative_to(self.workspace), key_file(self.logs.parent).relative_to(self.workspace)
        print(f"key      {key}  Prefect's page asks for its content once")
        if not self.had_key:
            print("new: Prefect asks for this key from now on; terminals that are open need the next line again")
        settings = f"PREFECT_API_URL={self.address}/api PREFECT_HOME=$PWD/{logs.parent}"
        print(f"for prefect in another terminal: export {settings} {CLIENT_VARIABLE}=$(cat {key})")
        print(f"logs in {logs}")
        print("Ctrl-C stops everything; runs save their state and go on at the next start", flush=True)

    def _set_up_server(self) -> None:
        setup = self._service("setup", [sys.executable, "-m", "flows.server.setup", "--no-worker-lives"])
        begin = setup.log.stat().st_size if setup.log.exists() else 0
        setup.start()
        status = setup.wait()
        told = setup.log.read_bytes()[begin:].decode(errors="replace").splitlines()
        for line in told:
            if line.startswith((NOTE, "error: ")):
                print(line, flush=True)
        if status:
            raise ServiceError(f"the pool, automations or deployments could not be made: see {setup.log}")

    def keep(self) -> None:
        """Restart whatever ends, until a signal comes."""
        while True:
            time.sleep(1)
            orphans(self.services)
            for service in self.services:
                if (status := service.ended()) is None:
                    continue
                if service.short_lives == SHORT_LIVES:
                    raise ServiceError(f"{service.name} ends again and again (status {status}): see {service.log}")
                print(f"{service.name} ended with status {status} and is started again", flush=True)
                if service is self.worker:  # its runs go on, but nobody could cancel them any more
                    end_families(orphans(self.services), STOP_SECONDS)
                    self._set_up_server()
                service.restart()

    def stop(self) -> str:
        """Stop the worker first: its runs save their state, report it, and are scheduled for the next start.

        Returns:
            What was interrupted, in words.
        """
        runs = self.worker.children()
        began = datetime.now(UTC).isoformat()
        self.worker.stop(STOP_SECONDS)
        _until(lambda: not orphans(self.services), LINGER_SECONDS)
        end_families(orphans(self.services), STOP_SECONDS)
        _until(lambda: not self._rerun_is_due(began), RESCHEDULE_SECONDS)
        for service in self.services:
            service.stop(STOP_SECONDS)
        end_families(orphans(self.services), STOP_SECONDS)
        shut_to_others(self.logs.parent)  # results of runs, which have the user's umask
        return f"{runs} run{'s' if runs > 1 else ''} will go on at the next start" if runs else "no run was going on"

    def _rerun_is_due(self, moment: str) -> bool:
        """Whether a run has crashed since then that is not scheduled again yet."""
        runs = {"state": {"type": {"any_": ["CRASHED"]}}, "end_time": {"after_": moment}}
        body = json.dumps({"flow_runs": runs, "work_pools": {"name": {"any_": [POOL]}}}).encode()
        address = f"{self.environment['PREFECT_API_URL']}/flow_runs/count"
        basic = base64.b64encode(self.key.encode()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {basic}"}
        request = urllib.request.Request(address, body, headers)  # noqa: S310  # loopback
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310  # loopback
                return int(answer.read()) > 0
        except urllib.error.HTTPError:  # SQLite is busy
            return True
        except OSError:  # the server is down
            return False


def _environment(home: Path, api: str) -> dict[str, str]:
    """The environment of all services and, through the worker, of the flow runs."""
    return os.environ | {
        "PREFECT_HOME": str(home),
        "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
        "PREFECT_API_URL": api,
        "PREFECT_UI_URL": api.removesuffix("/api"),  # for links in notifications
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        "PREFECT_WORKER_QUERY_SECONDS": "2",  # so that runs start soon after they were requested
        "PYTHONUNBUFFERED": "1",
    }


def _command(app: str, port: int) -> list[str]:
    return [sys.executable, "-m", "flows.server.web", app, "--port", str(port)]


def _wait_for(service: Service) -> None:
    if not _until(service.is_ready, START_SECONDS):
        raise ServiceError(f"{service.name} does not answer after {START_SECONDS:.0f} s: see {service.log}")


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait at most `seconds` for the condition; returns whether it came true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    private_folder(home.parent)
    private_folder(home)
    with locked(home / "serve.lock", wait=False) as free:
        if not free:
            raise UserError(f"{home} is in use: another `make serve` runs in this workspace")
        yield


def serve(port: int, mlflow_port: int) -> None:
    """Serve the current workspace until KeyboardInterrupt."""
    workspace = main_workspace()
    for name in ("NO_PROXY", "no_proxy"):  # programs differ in which of them they read
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), HOST]))
    with _only_one(workspace / WORK / "prefect"):
        check_port(port, "--port")
        check_port(mlflow_port, "--mlflow-port")
        adopt_orphans()
        serving, began = Serving(workspace, port, mlflow_port), time.monotonic()
        try:
            serving.start()
            serving.keep()
        finally:
            handle_stop_signals(signal.SIG_IGN)  # a second Ctrl-C would leave things running
            print("stopping", flush=True)
            interrupted = serving.stop()
            print(f"stopped after {duration(time.monotonic() - began)}: {interrupted}")


def duration(seconds: float) -> str:
    """In the two largest units that matter to a person."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def main() -> None:
    """Read the ports and serve."""
    parser = argparse.ArgumentParser(description="Prefect server, worker and MLflow UI on loopback.")
    parser.add_argument("--port", type=int, default=4200, help="of Prefect's API and UI (4200)")
    parser.add_argument("--mlflow-port", type=int, default=5000, help="of MLflow's UI (5000)")
    arguments = parser.parse_args()
    handle_stop_signals(signal.default_int_handler)  # all end it the same way, in the background too
    try:
        serve(arguments.port, arguments.mlflow_port)
    except KeyboardInterrupt:
        pass
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
