"""Prefect's or MLflow's server on loopback, guarded: `python -m flows.server.web prefect|mlflow --port PORT`.

`prefect server start` and `mlflow server` have no place for the guard, so uvicorn runs their applications from here.
"""

import argparse
import os
import socket
import sys

import uvicorn

from flows.checkout.workspace import tracking_uri
from transformer.errors import ParamsError, UserError
from transformer.serving.guard import App, Guard

HOST = "127.0.0.1"


def prefect_app() -> App:
    """Prefect's API, UI and services, with the settings of the environment and of pyproject.toml."""
    from prefect.server.api.server import create_app

    app: App = create_app(final=True)
    return app


def mlflow_app() -> App:
    """MLflow's API and UI over the workspace's store.

    Raises:
        ParamsError: the records are on a server of somebody else.
    """
    store = tracking_uri()
    if store.startswith("http"):
        raise ParamsError(f"the records are at {store}: open that")
    from mlflow.server.constants import (
        ARTIFACT_ROOT_ENV_VAR,
        ARTIFACTS_DESTINATION_ENV_VAR,
        BACKEND_STORE_URI_ENV_VAR,
        SERVE_ARTIFACTS_ENV_VAR,
    )

    # By the environment, as a command line, which may hold a password, can be read by every user of the machine.
    os.environ[BACKEND_STORE_URI_ENV_VAR] = store
    os.environ[ARTIFACT_ROOT_ENV_VAR] = "mlflow-artifacts:/"
    os.environ[ARTIFACTS_DESTINATION_ENV_VAR] = "mlartifacts"
    os.environ[SERVE_ARTIFACTS_ENV_VAR] = "true"
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # three more processes that nothing here uses
    from mlflow.server.fastapi_app import app

    served: App = app
    return served


APPS = {"prefect": prefect_app, "mlflow": mlflow_app}


def check_port(port: int, option: str) -> None:
    """Raises ParamsError if there is no such port or another process listens on it."""
    if not 0 < port < 65536:
        raise ParamsError(f"{option} {port}: ports go from 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ParamsError(f"port {port} of {HOST}: {error.strerror}; choose another one with {option}") from None


def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(description="A server on loopback that other origins can't reach.")
    parser.add_argument("app", choices=APPS)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    try:
        check_port(arguments.port, "--port")
        app = Guard(APPS[arguments.app]())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    uvicorn.run(app, host=HOST, port=arguments.port, log_level="warning", server_header=False)


if __name__ == "__main__":
    main()
