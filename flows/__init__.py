"""Everything that knows Prefect, DVC and MLflow; `transformer/` knows none of them."""

import os
import sys
from types import TracebackType

from flows.checkout.tracking_credentials import move_credentials

# Telemetry off and short patience with a server that is away, before any of the three is imported.
for _name, _value in {
    "DO_NOT_TRACK": "true",  # MLflow does not understand "1"
    "DVC_NO_ANALYTICS": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # of each run that is sent
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",  # flows run where no server is configured
    "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "none",  # of that temporary one; `make serve` names its own address
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # a busy laptop needs more than the default of 20
    "PREFECT_LOGGING_FORMATTERS_STANDARD_FLOW_RUN_FMT": "%(asctime)s %(message)s",
    "PREFECT_LOGGING_FORMATTERS_STANDARD_TASK_RUN_FMT": "%(asctime)s %(task_run_name)s: %(message)s",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "3",
}.items():
    os.environ.setdefault(_name, _value)
move_credentials(os.environ)


def _without_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


if sys.argv and sys.argv[0] == "-m":  # one of our commands is about to be imported, which may take seconds
    sys.excepthook = _without_traceback
