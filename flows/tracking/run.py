"""Records one execution of a stage; nothing here can make the stage fail or wait."""

import functools
import getpass
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import transformer
from flows.checkout.tracking_credentials import ADDRESS, checked_address
from flows.checkout.workspace import DEFINITION, METRICS, MODEL, main_workspace, model_name, tracking_folder
from flows.records import tags
from flows.records.dvc_files import parse_definition
from flows.records.execution import Execution
from flows.records.nested_keys import as_texts, numbers
from flows.records.provenance import pipeline_id
from flows.records.record import Artifact, Record, record_path
from flows.signatures.attest import attest, keep_record
from flows.tracking.model_description import made_from, scores
from flows.tracking.problem import problem_to_tell
from flows.tracking.send import start_sender
from flows.tracking.spool import Spool
from flows.tracking.system_metrics import SystemMetrics
from transformer.credentials import without_credentials
from transformer.errors import InterruptedTrainingError, UserError
from transformer.files import sha256_of
from transformer.params import Params

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner

Arguments = ParamSpec("Arguments")


def _never_failing(
    method: Callable[Concatenate["StageRun", Arguments], None],
) -> Callable[Concatenate["StageRun", Arguments], None]:
    """An error, such as a full disk, ends the recording with one warning, and never the stage."""

    @functools.wraps(method)
    def guarded(self: "StageRun", /, *arguments: Arguments.args, **options: Arguments.kwargs) -> None:
        if self.broken:
            return
        try:
            method(self, *arguments, **options)
        except Exception as error:
            self.broken = True
            print(f"warning: this run is not recorded: {without_credentials(str(error))}", file=sys.stderr)

    return guarded


class StageRun:
    """Writes a stage's params, metrics, files and outcome to a spool, and starts the sender."""

    def __init__(self, stage: str, params: Params, signer: "CryptoSigner | None" = None) -> None:
        self.broken = False
        self._signer = signer
        self._system: SystemMetrics | None = None
        self._params = params
        self.inputs: list[Artifact] = []  # what the stage reads, hashed when it began
        self._start(stage, params)

    @_never_failing
    def _start(self, stage: str, params: Params) -> None:
        files = parse_definition(Path(DEFINITION).read_bytes(), DEFINITION)[stage]
        self._execution = Execution(files, params)
        self.inputs = self._execution.inputs
        self._spool = Spool.create(tracking_folder(), stage)
        self._spool.start(
            uri=checked_address(os.environ.get(ADDRESS, "")) or None,  # the own store may move before it is sent
            experiment=model_name(params.languages),
            name=stage,
            tags={
                "stage": stage,
                "pipeline": pipeline_id(),
                "mlflow.user": getpass.getuser(),
                "mlflow.source.name": files.command,
                **tags.code_tags(self._execution.code),
                **tags.machine_tags(self._execution.machine),
            },
            params=as_texts(self._execution.params),
            parent={
                "name": _pipeline_name(params, self._execution.code.commit),
                "tags": ["mlflow.user", *tags.code_tags(self._execution.code)],
            },
            record=os.path.relpath(record_path(Path.cwd(), stage), main_workspace()),
        )
        start_sender()
        self._spool.append("tags", tags=tags.hash_tags("input", self._execution.inputs))
        self._system = SystemMetrics(self._sampled)

    def _sampled(self, number: int, metrics: dict[str, float]) -> None:
        self.log(number, metrics)
        self._tell_problem()

    @_never_failing
    def _tell_problem(self) -> None:
        if problem := problem_to_tell(tracking_folder()):
            print(f"warning: {problem}", file=sys.stderr)

    @_never_failing
    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Record metrics at a step; may be called from any thread."""
        self._spool.append("metrics", step=step, values=numbers(metrics))

    @_never_failing
    def measure(self, figures: dict[str, Any]) -> None:
        """Keep what clock and machine decided in the lineage record and MLflow; no output of a stage holds any."""
        self._execution.measured |= figures

    @_never_failing
    def register_model(self, folder: Path, name: str) -> None:
        """Have the model folder registered as the next version of `name`, with the code that loads it."""
        self._spool.keep(folder, "model")
        self._spool.keep(Path(transformer.__file__).parent, "code/transformer")
        sha256 = sha256_of(folder)
        text = made_from(self._params, self._execution.code, sha256, Path.cwd())
        self._spool.append("model", name=name, sha256=sha256, made_from=text)

    @_never_failing
    def finish(self) -> None:
        """The stage succeeded: its lineage record, outputs by hash, numbers and small report files."""
        record = self._execution.finished(self._spool.id)
        self._send_file(keep_record(Path.cwd(), record).relative_to(Path.cwd()))
        self._attest(record)
        outputs = tags.hash_tags("output", record.outputs)
        self._spool.append("tags", tags={**outputs, tags.RECORD: record.digest})
        for report in self._execution.files.reports:
            self._send_file(Path(report))
            if report.endswith(".json"):
                self._spool.append("metrics", step=0, values=numbers(json.loads(Path(report).read_text("utf-8"))))
        self._spool.append("metrics", step=0, values=numbers(record.measured))
        self._describe_scores(record)
        self._end("FINISHED")

    def _attest(self, record: Record) -> None:
        """Log and sign the record, which is whole and sent without that, too."""
        try:
            envelope = attest(Path.cwd(), record, self._signer)
        except (UserError, OSError) as error:
            signed = "logged and signed" if self._signer else "logged"
            print(f"warning: the record of {record.stage} is not {signed}: {error}", file=sys.stderr)
        else:
            if envelope:
                self._send_file(envelope.relative_to(Path.cwd()))

    def _describe_scores(self, record: Record) -> None:
        """An evaluation tells the page of the model that it is of."""
        model = next((one for one in record.inputs if one.path == MODEL), None)
        if model and METRICS in self._execution.files.reports:
            text = scores(json.loads(Path(METRICS).read_text(encoding="utf-8")))
            name = model_name(self._params.languages)
            self._spool.append("scores", name=name, sha256=model.sha256, text=text)

    def _send_file(self, path: Path) -> None:
        self._spool.keep(path, path.as_posix())
        self._spool.append("artifact", name=path.as_posix())

    @_never_failing
    def fail(self, status: str, reason: str) -> None:
        """Record that the stage ended as `status` (MLflow's FAILED or KILLED)."""
        self._spool.append("tags", tags={"error": without_credentials(reason)})
        self._end(status)

    def _end(self, status: str) -> None:
        if self._system:
            self._system.stop()
        self._spool.append("end", status=status)
        self._tell_problem()


def _pipeline_name(params: Params, commit: str | None) -> str:
    """What was trained on, the direction, and the code's commit."""
    direction = f"{params.languages.source}-{params.languages.target}"
    return " ".join(["+".join(params.download.corpora), direction, *([commit[:8]] if commit else [])])


@contextmanager
def recorded(stage: str, params: Params, signer: "CryptoSigner | None" = None) -> Iterator[StageRun]:
    """Record the body as a run of `stage`: FINISHED, FAILED, or KILLED if it was asked to stop.

    `signer` signs the record of one that finished.
    """
    run = StageRun(stage, params, signer)
    try:
        yield run
    except BaseException as error:
        status = "KILLED" if isinstance(error, InterruptedTrainingError | KeyboardInterrupt) else "FAILED"
        run.fail(status, f"{type(error).__name__}: {error}")
        raise
    run.finish()
