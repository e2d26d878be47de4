"""Recording runs in MLflow without ever delaying a stage.

A stage only appends events to a spool on disk (`spool`, `run`). One detached process per workspace (`send`) delivers
them to MLflow (`delivery`), while the stage runs or, if the server is down, later. Stages never import MLflow.
"""
