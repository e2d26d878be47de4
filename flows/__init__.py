"""Everything that knows Prefect, DVC and MLflow; `transformer/` knows none of them."""

import os

# Telemetry off and short patience with a server that is away, before any of the three is imported.
for _name, _value in {
    "DO_NOT_TRACK": "true",  # MLflow does not understand "1"
    "DVC_NO_ANALYTICS": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "3",
}.items():
    os.environ.setdefault(_name, _value)
