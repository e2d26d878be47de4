"""Templates of deploy/: accepted by Prefect's server, rendered by Prefect's own code, whole as Kubernetes objects."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import prefect
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import PrefectHTTPStatusError
from prefect.workers.base import BaseJobConfiguration
from prefect_server import PrefectServer

CHECKOUT = Path(__file__).parents[2]
DEPLOY = CHECKOUT / "deploy"
POOLS = ["docker", "kubernetes"]
# What the workers themselves would use, as Prefect ships it for its UI.
SHIPPED = Path(prefect.__file__).parent / "server" / "api" / "collections_data" / "views"


def template(pool: str) -> dict[str, Any]:
    """Our base job template."""
    content: dict[str, Any] = json.loads((DEPLOY / f"{pool}-pool.json").read_text())
    return content


def shipped_template(pool: str) -> dict[str, Any]:
    """Prefect's base job template."""
    workers = json.loads((SHIPPED / "aggregate-worker-metadata.json").read_text())
    content: dict[str, Any] = workers[f"prefect-{pool}"][pool]["default_base_job_configuration"]
    return content


class Job(BaseJobConfiguration):
    """A job as Prefect renders it, with the fields of both kinds of workers."""

    image: str | None = None
    volumes: list[str] | None = None
    network_mode: str | None = None
    namespace: str | None = None
    job_manifest: dict[str, Any] | None = None


def render(server: PrefectServer, pool: str, **variables: Any) -> Job:
    """The job that a worker would start."""
    values = {"command": "prefect flow-run execute", "name": "run", **variables}
    with server.connected():
        job: Job = asyncio.run(Job.from_template_and_values(template(pool), values))
    return job


@pytest.mark.parametrize("pool", POOLS)
def test_a_template_keeps_to_what_its_worker_reads(pool: str) -> None:
    ours, theirs = template(pool), shipped_template(pool)
    assert set(ours["job_configuration"]) == set(theirs["job_configuration"])
    assert set(theirs["variables"]["properties"]) <= set(ours["variables"]["properties"])
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(ours["job_configuration"])))
    assert used == set(ours["variables"]["properties"])


def test_a_docker_job_sees_the_checkout_and_the_gpu(prefect_server: PrefectServer) -> None:
    job = render(prefect_server, "docker", volumes=["/data/checkout:/workspace"])
    assert job.image == "transformer:latest"
    assert job.volumes == ["/data/checkout:/workspace"]
    assert job.env["NVIDIA_VISIBLE_DEVICES"] == "all"


def test_a_kubernetes_job_asks_for_a_gpu_and_keeps_its_workspace(prefect_server: PrefectServer) -> None:
    job = render(prefect_server, "kubernetes", gpus=2, memory_limit="64Gi")
    assert job.job_manifest is not None
    assert (job.job_manifest["apiVersion"], job.job_manifest["kind"]) == ("batch/v1", "Job")
    spec = job.job_manifest["spec"]
    assert spec["backoffLimit"] == 0  # re-runs are Prefect's
    pod = spec["template"]["spec"]
    assert (pod["restartPolicy"], pod["terminationGracePeriodSeconds"]) == ("Never", 120)
    (container,) = pod["containers"]
    assert container["resources"] == {
        "limits": {"memory": "64Gi", "nvidia.com/gpu": 2},
        "requests": {"cpu": "4", "memory": "16Gi"},
    }
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["workspace"]["persistentVolumeClaim"] == {"claimName": "workspace"}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    assert "{{" not in json.dumps(job.job_manifest)


@pytest.fixture(scope="module")
def client(prefect_server: PrefectServer) -> SyncPrefectClient:
    """A client of a server with both pools."""
    client = prefect_server.client
    for pool in POOLS:
        client.create_work_pool(WorkPoolCreate(name=pool, type=pool, base_job_template=template(pool)))
    return client


def test_all_deployments_go_to_a_pool_of_containers_and_its_variables_are_checked(
    client: SyncPrefectClient, prefect_server: PrefectServer
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", "deploy/prefect.yaml"],
        cwd=CHECKOUT,
        env=prefect_server.environment | {"POOL": "kubernetes"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ours = yaml.safe_load((CHECKOUT / "prefect.yaml").read_text())["deployments"]
    made = {deployment.name: deployment for deployment in client.read_deployments()}
    for deployment in ours:
        found = made[deployment["name"]]
        assert (found.work_pool_name, found.entrypoint) == ("kubernetes", deployment["entrypoint"])
        assert [entry.schedule.cron for entry in found.schedules] == [
            schedule["cron"] for schedule in deployment.get("schedules", [])
        ]
        assert found.parameters == deployment.get("parameters", {})
        assert found.pull_steps == [{"prefect.deployments.steps.set_working_directory": {"directory": "/workspace"}}]
    retraining = made["retraining"].id
    client.create_flow_run_from_deployment(retraining, job_variables={"gpus": 4})
    with pytest.raises(PrefectHTTPStatusError, match="gpus"):
        client.create_flow_run_from_deployment(retraining, job_variables={"gpus": "many"})
    for deployment in made.values():
        client.delete_deployment(deployment.id)


def test_kubernetes_objects_are_whole_and_refer_to_one_another() -> None:
    objects = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    names = {(item["kind"], item["metadata"]["name"]) for item in objects}
    assert len(names) == len(objects)
    assert {item["metadata"]["namespace"] for item in objects} == {"transformer"}
    assert all(item["apiVersion"] for item in objects)
    by_kind = {item["kind"]: item for item in objects}
    worker = by_kind["Deployment"]["spec"]
    assert worker["selector"]["matchLabels"] == worker["template"]["metadata"]["labels"]
    account = worker["template"]["spec"]["serviceAccountName"]
    binding = by_kind["RoleBinding"]
    assert ("ServiceAccount", account) in names
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) in names
    assert [subject["name"] for subject in binding["subjects"]] == [account]
    variables = template("kubernetes")["variables"]["properties"]
    assert ("PersistentVolumeClaim", variables["workspace_claim"]["default"]) in names
    assert variables["namespace"]["default"] == "transformer"
    image = by_kind["Job"]["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == variables["image"]["default"]
    assert prefect.__version__ in worker["template"]["spec"]["containers"][0]["image"]


def test_compose_services_refer_to_one_another() -> None:
    content = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    for service in content["services"].values():
        assert set(service.get("depends_on", {})) <= set(content["services"])
        volumes = {volume.split(":")[0] for volume in service.get("volumes", [])}
        assert volumes <= set(content["volumes"])
        assert {config["source"] for config in service.get("configs", [])} <= set(content["configs"])
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
