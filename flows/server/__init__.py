"""`make serve`, and the set-up of Prefect servers: work pool, deployments and automations."""
