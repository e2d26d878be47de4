"""Outgrowing one machine: Prefect and MLflow on PostgreSQL, artifacts and DVC's cache in S3, all of them real."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import psycopg2
import pytest
from mlflow_server import MlflowServer
from postgres import Postgres, postgres
from prefect_server import PrefectServer
from s3_server import S3Server, s3_server
from tiny_inputs import CHECKOUT

from flows.records.dvc_stores import DvcStores
from flows.tracking.delivery import Delivery
from flows.tracking.spool import Spool


@pytest.fixture(scope="module")
def cluster() -> Iterator[Postgres]:
    """PostgreSQL for this module."""
    with postgres() as running:
        yield running


@pytest.fixture(scope="module")
def storage() -> Iterator[S3Server]:
    """S3 for this module."""
    with s3_server() as running:
        yield running


FLOW = """
import flows
from prefect import flow, task
from prefect.client.orchestration import get_client
from flows.server.setup import set_up

@task
def double(number: int) -> int:
    return 2 * number

@flow(name="on-postgres")
def work() -> int:
    return sum(double.submit(number).result() for number in (1, 2))

with get_client(sync_client=True) as client:
    set_up(client)
print(work())
"""


def test_prefects_server_on_postgresql_runs_a_flow(cluster: Postgres, tmp_path: Path) -> None:
    database = cluster.create("prefect")
    server = PrefectServer(
        tmp_path,
        PREFECT_SERVER_DATABASE_CONNECTION_URL=f"postgresql+asyncpg://{database}",
        PREFECT_LOGGING_LEVEL="ERROR",
    )
    server.start()
    try:
        (tmp_path / "work.py").write_text(FLOW)
        environment = server.environment | {"PYTHONPATH": str(CHECKOUT)}
        done = subprocess.run(
            [sys.executable, "work.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
        assert (done.returncode, done.stdout) == (0, "6\n"), done.stderr
    finally:
        server.stop()
    assert not list((tmp_path / "home").glob("*.db"))
    with psycopg2.connect(f"postgresql://{database}") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT flow.name, flow_run.state_type FROM flow_run JOIN flow ON flow.id = flow_run.flow_id")
        assert cursor.fetchall() == [("on-postgres", "COMPLETED")]
        cursor.execute("SELECT count(*) FROM automation")
        assert cursor.fetchone() == (3,)
    connection.close()


def test_records_reach_mlflow_on_postgresql_with_artifacts_in_s3(
    cluster: Postgres, storage: S3Server, tmp_path: Path
) -> None:
    storage.create("mlflow")
    store = f"postgresql://{cluster.create('mlflow')}"
    server = MlflowServer(tmp_path, store, "s3://mlflow/runs", **storage.environment)
    server.start()
    try:
        (tmp_path / "metrics.json").write_text('{"bleu": 31.2}')
        spool = Spool.create(tmp_path / "tracking", "evaluate")
        spool.start(
            uri=server.uri, experiment="shared", name="evaluate", tags={"stage": "evaluate"}, params={"a": "1"}
        )
        spool.append("metrics", step=3, values={"bleu": 31.2})
        spool.keep(tmp_path / "metrics.json", "reports/metrics.json")
        spool.append("artifact", name="reports/metrics.json")
        spool.append("end", status="FINISHED")
        Delivery(spool).advance()
        client = mlflow.MlflowClient(tracking_uri=server.uri)
        experiment = client.get_experiment_by_name("shared")
        assert experiment is not None
        (run,) = client.search_runs([experiment.experiment_id])
        assert (run.info.status, run.data.metrics, run.data.params) == ("FINISHED", {"bleu": 31.2}, {"a": "1"})
        fetched = client.download_artifacts(run.info.run_id, "reports/metrics.json", str(tmp_path))
        assert Path(fetched).read_text() == '{"bleu": 31.2}'
    finally:
        server.stop()
    key = f"runs/{experiment.experiment_id}/{run.info.run_id}/artifacts/reports/metrics.json"
    assert storage.objects("mlflow") == {key: len('{"bleu": 31.2}')}


PIPELINE = """
stages:
  shout:
    cmd: tr a-z A-Z < in.txt > out.txt && echo ran >> calls.txt
    deps: [in.txt]
    outs: [out.txt]
"""


def test_dvc_keeps_data_and_run_cache_in_s3_where_lineage_reads_them(
    storage: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.create("dvc")
    environment = os.environ | storage.environment
    environment |= {"DVC_NO_ANALYTICS": "true", "DVC_SITE_CACHE_DIR": str(tmp_path / "site")}
    folder = tmp_path / "workspace"
    folder.mkdir()

    def dvc(*arguments: str) -> None:
        command = [sys.executable, "-m", "dvc", *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "in.txt").write_text("loud\n")
    dvc("init", "--no-scm")
    dvc("remote", "add", "--default", "store", "s3://dvc/project")
    dvc("remote", "modify", "store", "endpointurl", storage.url)
    dvc("repro")
    dvc("push", "--run-cache")
    assert any("/runs/" in key for key in storage.objects("dvc"))
    check_remote(folder, storage, monkeypatch)
    shutil.rmtree(folder / ".dvc" / "cache")
    (folder / "out.txt").unlink()
    dvc("pull")
    assert (folder / "out.txt").read_text() == "LOUD\n"

    shutil.rmtree(folder / ".dvc" / "cache")
    for name in ("out.txt", "dvc.lock"):  # a clone that has never seen the result
        (folder / name).unlink()
    dvc("repro", "--pull")
    assert (folder / "out.txt").read_text() == "LOUD\n"
    assert (folder / "calls.txt").read_text() == "ran\n"  # once, at the very first


def check_remote(folder: Path, storage: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """`lineage verify` sees what the bucket really holds: the object, another one in its place, or nothing."""
    for name, value in storage.environment.items():
        monkeypatch.setenv(name, value)
    loud, quiet = (hashlib.md5(text).hexdigest() for text in (b"LOUD\n", b"quiet\n"))
    (key,) = (key for key in storage.objects("dvc") if key.endswith(f"files/md5/{loud[:2]}/{loud[2:]}"))
    for content, found in ((b"LOUD\n", loud), (b"quiet\n", quiet), (None, None), (b"LOUD\n", loud)):
        storage.replace("dvc", key, content)
        places = DvcStores(folder)
        assert places.remote_problem is None
        assert places.remote.md5_of(loud) == found
