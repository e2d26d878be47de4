"""OpenLineage: a START and a COMPLETE event for each stage, one JSON object a line, as its file transport writes."""

import json
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, UUID, uuid5

from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState, set_producer
from openlineage.client.facet_v2 import (
    DatasetFacet,
    JobFacet,
    RunFacet,
    dataset_version_dataset,
    datasource_dataset,
    documentation_dataset,
    execution_parameters_run,
    job_type_job,
    parent_run,
    processing_engine_run,
    tags_run,
)
from openlineage.client.serde import Serde

from flows.lineage.chain import Chain, Step
from flows.lineage.export import brought, steps_of
from flows.lineage.sources import Source
from flows.records.nested_keys import as_texts
from flows.records.record import Record

NAMESPACE = "attention-pipeline"
PRODUCER = "urn:attention-pipeline:lineage"


def openlineage(chain: Chain) -> str:
    """The events of all stages in order.

    Raises:
        DataError: a stage has no record.
    """
    set_producer(PRODUCER)
    lines = []
    for one, step, record in steps_of(chain):
        lines += [Serde.to_json(event) for event in _events(one, step, record)]
    return "\n".join(lines) + "\n"


def _events(chain: Chain, step: Step, record: Record) -> list[RunEvent]:
    inputs = [InputDataset(NAMESPACE, one.path, facets=_version(one.md5)) for one in record.inputs]
    inputs += [_source(source) for source in chain.sources_of(step)]
    inputs += [InputDataset(NAMESPACE, path, facets=_version(md5)) for path, md5 in brought(chain, step).items()]
    outputs = [OutputDataset(NAMESPACE, one.path, facets=_version(one.md5)) for one in record.outputs]
    run, job = Run(run_id(record), _run_facets(record)), Job(NAMESPACE, record.stage, _job_facets())
    return [
        RunEvent(eventTime=record.started, run=run, job=job, eventType=RunState.START, inputs=inputs, outputs=[]),
        RunEvent(
            eventTime=record.ended, run=run, job=job, eventType=RunState.COMPLETE, inputs=inputs, outputs=outputs
        ),
    ]


def run_id(record: Record) -> str:
    """Prefect's task run where there was one, else an id that follows from the record."""
    known = record.runs.prefect_task_run
    return str(UUID(known)) if known else str(uuid5(NAMESPACE_URL, f"{PRODUCER}:{record.digest}"))


def _version(md5: str) -> dict[str, DatasetFacet]:
    return {"version": dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=f"md5:{md5}")}


def _source(source: Source) -> InputDataset:
    parts = urlsplit(source.origin)
    published = parts.scheme in ("http", "https")
    namespace, name = (f"{parts.scheme}://{parts.netloc}", parts.path) if published else ("sources", source.origin)
    facets: dict[str, DatasetFacet] = {
        "documentation": documentation_dataset.DocumentationDatasetFacet(f"Licence: {source.licence}")
    }
    if published:
        facets["dataSource"] = datasource_dataset.DatasourceDatasetFacet(name=source.corpus, uri=source.origin)
    if source.sha256:
        facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(f"sha256:{source.sha256}")
    return InputDataset(namespace, name, facets=facets)


def _job_facets() -> dict[str, JobFacet]:
    return {"jobType": job_type_job.JobTypeJobFacet(processingType="BATCH", integration="DVC", jobType="STAGE")}


def _run_facets(record: Record) -> dict[str, RunFacet]:
    parameters = [
        execution_parameters_run.ExecutionParameter(key=key, value=value)
        for key, value in as_texts(record.params).items()
    ]
    tags = {
        "git.commit": record.code.commit,
        "git.changed": json.dumps(record.code.changed),
        "lineage.record": record.digest,
        "mlflow.run": record.runs.mlflow,
        "machine": ", ".join(record.machine.gpus) or record.machine.cpu,
        "os": record.machine.os,
    }
    facets: dict[str, RunFacet] = {
        "executionParameters": execution_parameters_run.ExecutionParametersRunFacet(parameters),
        "processing_engine": processing_engine_run.ProcessingEngineRunFacet(record.machine.python, "Python"),
        "tags": tags_run.TagsRunFacet([tags_run.TagsRunFacetFields(k, v) for k, v in tags.items() if v]),
    }
    if flow := record.runs.prefect_flow_run:
        job = parent_run.Job(NAMESPACE, "pipeline")
        facets["parent"] = parent_run.ParentRunFacet(run=parent_run.Run(str(UUID(flow))), job=job)
    return facets
