"""Does MLflow show what the reports say: scores, curves, the report files themselves, the times and the machine?

Whoever may write to MLflow may change what people look at there, and nothing else.
"""

import csv
import io
import json
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from flows.checkout.workspace import CURVES, REPORTS
from flows.lineage.checks.link import Link, Status, broken, compared_maps, missing
from flows.lineage.project import Project
from flows.lineage.run_store import RunInfo
from flows.records import tags
from flows.records.hashes import hash_tracked
from flows.records.nested_keys import metric_key, numbers
from flows.records.record import Artifact, Record

LIVE = ("train/", "valid/", "system/")  # of these MLflow has every point; the first two are in reports/curves, too
CURVE_FILES = {"training.csv": "train", "validation.csv": "valid"}
ROUNDED = 1e-6  # half of the last digit that the curves keep
AFTER_SECONDS = 600.0  # a record's run ends once its files are hashed, which takes a while where they are many


def check_numbers(project: Project, record: Record, run: RunInfo, sent: set[str]) -> Iterator[Link]:
    """What a run shows beside its tags of hashes, against the record and the reports that were `sent`."""
    where = f"MLflow run {run.id[:8]}"
    yield _metrics(project, record, run, where)
    yield from _curves(project, record, run, where)
    yield _times(record, run, where)
    machine = {**tags.code_tags(record.code), **tags.machine_tags(record.machine)}
    yield compared_maps(record.stage, "machine", where, machine, {key: run.tags.get(key) for key in machine})
    for output in record.outputs:
        if output.path in sent:
            yield _report(project, record, output, run, where)


def _metrics(project: Project, record: Record, run: RunInfo, where: str) -> Link:
    expected = numbers(record.measured)
    for output in record.outputs:
        if output.path.startswith(REPORTS) and output.path.endswith(".json"):
            content = project.content(output.path, output.md5)
            if content is None:
                return missing(record.stage, "metrics", where, f"the content of {output.path} was not found")
            expected |= numbers(json.loads(content))
    named = {metric_key(name): value for name, value in expected.items()}
    shown = {name: value for name, value in run.metrics.items() if not name.startswith(LIVE)}
    return compared_maps(record.stage, "metrics", where, named, shown)


def _curves(project: Project, record: Record, run: RunInfo, where: str) -> Iterator[Link]:
    """Each point that both have; of a resumed training, MLflow's run may lack the first ones."""
    curves = record.output(CURVES)
    if curves is None:
        return
    for name, prefix in CURVE_FILES.items():
        content = project.content(f"{CURVES}/{name}", curves.files.get(name, ""))
        if content is None:
            yield missing(record.stage, f"{CURVES}/{name}", where, "its content was not found")
            continue
        yield _curve(project, record, run, f"{CURVES}/{name}", prefix, content.decode())


def _curve(project: Project, record: Record, run: RunInfo, path: str, prefix: str, text: str) -> Link:
    where = f"MLflow run {run.id[:8]}"
    rows = list(csv.DictReader(io.StringIO(text)))
    for key in list(rows[0])[1:] if rows else ():
        shown: dict[int, list[float]] = {}
        for step, value in project.runs.history(run.id, f"{prefix}/{key}"):
            shown.setdefault(step, []).append(value)
        for row in rows:
            update, expected = int(row["update"]), float(row[key] or "nan")
            found = shown.get(update, [])
            if found and not any(abs(value - expected) <= ROUNDED for value in found):
                words = f"{key} of update {update}: expected {expected} found {found[-1]}"
                return broken(record.stage, path, where, words)
    return Link(record.stage, path, where, Status.OK)


def _times(record: Record, run: RunInfo, where: str) -> Link:
    started, ended = (datetime.fromisoformat(time).timestamp() for time in (record.started, record.ended))
    # The spool begins and ends after the record's times, which it holds to the second.
    if started - 1 <= run.started <= ended + 1 and ended - 1 <= run.ended <= ended + AFTER_SECONDS:
        return Link(record.stage, "times", where, Status.OK)
    shown = " to ".join(_utc(time) for time in (run.started, run.ended))
    return broken(record.stage, "times", where, f"expected {record.started} to {record.ended} found {shown}")


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def _report(project: Project, record: Record, output: Artifact, run: RunInfo, where: str) -> Link:
    with tempfile.TemporaryDirectory() as folder:
        path = project.runs.fetch(f"{run.artifacts}/{output.path}", Path(folder))
        if path is None:
            return missing(record.stage, output.path, f"{where}, its files", "not there")
        found = hash_tracked(path)
    expected = output.files or {output.path: output.md5}
    listing = found.listing or {output.path: found.md5}
    return compared_maps(record.stage, output.path, f"{where}, its files", expected, listing)
