"""What a person sees in MLflow: a run for each execution of the pipeline, a readable page of a version."""

import json
import shutil
import time
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run

from flows.promotion.registered_model import RegisteredModel
from flows.tracking.delivery import Delivery
from flows.tracking.model_description import DECISION, MADE_FROM, SCORES, made_from, scores, with_part
from flows.tracking.pipeline_run import HEADLINES, KIND, PARENT, VIEW_TAG
from flows.tracking.spool import Spool
from transformer.params import Params

METRICS = {
    "test": {"bleu": 32.36},
    "tests": {
        "mine|all": {
            "bleu": 32.36, "bleu_low": 29.66, "bleu_high": 34.93, "bleu_signature": "nrefs:1|tok:13a", "chrf": 57.33,
            "chrf_signature": "nrefs:1|nc:6", "ter": 65.8, "ter_signature": "tok:tercom", "sentences": 929,
        }
    },
}  # fmt: skip


class Store:
    """An MLflow store, and stages that are recorded there."""

    def __init__(self, folder: Path, empty_store: Path) -> None:
        shutil.copy(empty_store, folder / "mlflow.db")
        self.folder, self.uri = folder, f"sqlite:///{folder}/mlflow.db"
        self.client = mlflow.MlflowClient(tracking_uri=self.uri)

    def begin(self, stage: str, pipeline: str) -> Spool:
        spool = Spool.create(self.folder / "tracking", stage)
        tags = {"stage": stage, "pipeline": pipeline, "git.commit": "0123456789"}
        parent = {"name": "mine en-de 01234567", "tags": ["git.commit", "mlflow.user"]}
        spool.start(uri=self.uri, experiment="transformer-en-de", name=stage, tags=tags, params={}, parent=parent)
        Delivery(spool).advance()
        return spool

    def end(self, spool: Spool, status: str, metrics: dict[str, float] | None = None) -> None:
        spool.append("metrics", step=1, values=metrics or {"seconds": 1.0})
        spool.append("end", status=status)
        Delivery(spool).advance()
        time.sleep(0.01)  # so that runs have an order

    def runs(self) -> list[Run]:
        (experiment,) = [one for one in self.client.search_experiments() if one.name == "transformer-en-de"]
        return list(self.client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"]))

    def pipelines(self) -> list[Run]:
        return [run for run in self.runs() if KIND in run.data.tags]


@pytest.fixture
def store(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return Store(tmp_path, empty_store)


def test_the_stages_of_an_execution_are_below_a_run_with_the_scores(store: Store) -> None:
    train = store.begin("train", "p1")
    (pipeline,) = store.pipelines()
    assert (pipeline.info.run_name, pipeline.info.status) == ("mine en-de 01234567", "RUNNING")
    assert (pipeline.data.tags[KIND], pipeline.data.tags["git.commit"]) == ("p1", "0123456789")
    store.end(train, "KILLED")
    assert store.pipelines()[0].info.status == "KILLED"
    # The stage that was stopped goes on: what it left does not look like a failure of the whole.
    store.end(store.begin("train", "p1"), "FINISHED", {"valid/loss": 2.3, "train/loss": 2.9})
    evaluate = store.begin("evaluate", "p1")
    assert store.pipelines()[0].info.status == "RUNNING"
    store.end(evaluate, "FINISHED", {"test.bleu": 32.4, "test.chrf": 57.3})
    store.end(store.begin("average", "p2"), "FAILED")
    first, second = store.pipelines()
    assert (first.info.status, second.info.status) == ("FINISHED", "FAILED")
    assert first.data.metrics == {"BLEU": 32.4, "chrF2": 57.3, "validation loss": 2.3}
    columns = json.loads(store.client.get_experiment_by_name("transformer-en-de").tags[VIEW_TAG])["selectedColumns"]
    assert [name for name in columns if name.startswith("metrics")] == [f"metrics.`{name}`" for name in HEADLINES]
    below = [run.data.tags["stage"] for run in store.runs() if run.data.tags.get(PARENT) == first.info.run_id]
    assert below == ["train", "train", "evaluate"]


def test_a_failed_stage_beside_finished_ones_fails_the_whole(store: Store) -> None:
    failed, other = store.begin("train", "p"), store.begin("evaluate", "p")
    store.end(failed, "FAILED")
    assert store.pipelines()[0].info.status == "RUNNING"
    store.end(other, "FINISHED")
    assert store.pipelines()[0].info.status == "FAILED"


def test_a_pipelines_run_that_somebody_deleted_keeps_no_record_waiting(store: Store) -> None:
    spool = store.begin("train", "p")
    store.client.delete_run(store.pipelines()[0].info.run_id)
    store.end(spool, "FINISHED")
    store.end(store.begin("average", "p"), "FINISHED")
    assert Spool.waiting(store.folder / "tracking") == []
    assert [run.info.status for run in store.pipelines()] == ["FINISHED"]


def test_the_page_of_a_version_says_what_it_is(store: Store, tiny_params: Params) -> None:
    store.client.create_registered_model("m")
    number = store.client.create_model_version("m", "file:///nowhere").version
    store.client.set_model_version_tag("m", str(number), "sha256", "ab" * 32)
    spool = store.begin("evaluate", "p")
    spool.append("scores", name="m", sha256="ab" * 32, text=scores(METRICS))
    store.end(spool, "FINISHED")
    registered = RegisteredModel(store.uri, "m")
    version = registered.version(str(number))
    registered.record(version, "refused", "BLEU is lower", {"champion": "", "significance": 0.05, "branch": "b"})
    registered.record(version, "promoted", "by hand", {"flow_run": ""})
    text = store.client.get_model_version("m", str(number)).description
    assert text.index(f"## {SCORES}") < text.index(f"## {DECISION}")
    assert "| mine\\|all | 929 | 32.4 (29.7 - 34.9) | 57.3 | 65.8 |" in text
    assert "- BLEU: `nrefs:1|tok:13a`" in text
    assert "**promoted**" in text
    assert "refused" not in text


def test_what_a_version_is_made_from(tiny_params: Params, tmp_path: Path) -> None:
    from flows.records.record import Code

    (tmp_path / "data").mkdir()
    entry = {"source": "https://example.org/<b>a|b</b>.tgz", "licence": "CC-BY-4.0"}
    (tmp_path / "data" / "manifest.json").write_text(json.dumps({"files": [entry, entry]}))
    code = Code(commit="c0ffee", branch="main", changes="0" * 64, changed=["a"])
    text = made_from(tiny_params, code, "ab" * 32, tmp_path)
    assert "| direction | en → de |" in text
    assert "| data | https://example.org/&lt;b&gt;a\\|b&lt;/b&gt;.tgz (CC-BY-4.0) |" in text
    assert "| code | commit `c0ffee`, with uncommitted changes |" in text
    assert f"| SHA-256 | `{'ab' * 32}` |" in text
    (tmp_path / "data" / "manifest.json").write_text("[")
    assert f"| data | {', '.join(tiny_params.download.corpora)} |" in made_from(tiny_params, code, "", tmp_path)


def test_parts_of_a_description_are_replaced_and_in_order() -> None:
    text = with_part(with_part(with_part(None, DECISION, "d"), MADE_FROM, "m"), SCORES, "s")
    assert text == "## Made from\n\nm\n\n## Scores\n\ns\n\n## Decision of the gate\n\nd\n"
    assert with_part(text, SCORES, "new\n\n| a |") == text.replace("\ns\n", "\nnew\n\n| a |\n")
    assert with_part("A note by hand.\n", SCORES, "s") == "A note by hand.\n\n## Scores\n\ns\n"
