"""MLflow records that never hold up the work.

A stage only appends events to a spool on disk (`spool`, `run`); one detached process per workspace (`send`) delivers
them to MLflow (`delivery`), live while stages run, later where the server is away. Stages never import MLflow.
"""
