"""Translations of the test sets: the candidate's from its evaluation, another model's from a cache or made again.

`work/translations/<model sha256>/<precision>/<sources' sha256>.jsonl` holds one JSON object per sentence; its SHA-256
is a tag of the registered version, and what differs from it does not count. The settings of the search are in the
model folder, and so in its hash, but for the precision: it is that of the candidate's evaluation.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Literal

from mlflow.exceptions import MlflowException

from flows.checkout.workspace import CORPUS, HYPOTHESES, LOCK, METRICS, TRANSLATIONS
from flows.checkout.worktree import read_at
from flows.promotion.gate import TestTranslations
from flows.promotion.registered_model import RegisteredModel, Version
from flows.promotion.translate import Search, translate
from flows.records.hashes import hash_path
from flows.records.record import Record, parse_record, record_path
from flows.restore.outputs import locked_stages
from transformer.errors import DataError, UserError
from transformer.evaluation.references import reference_in
from transformer.files import write_text
from transformer.params import Params

EVALUATE = "evaluate"
TEST_CORPUS = f"{CORPUS}/test.parquet"


def evaluated(checkout: Path, test_sets: list[str]) -> dict[str, TestTranslations]:
    """What the evaluate stage wrote in a checkout, by test set.

    Raises:
        DataError: a file is missing or malformed, or the files are not those that dvc.lock names.
    """
    found = {name: _read(checkout / TRANSLATIONS / f"{name}.jsonl") for name in test_sets}
    locked = locked_stages(checkout).get(EVALUATE)
    expected = locked.outputs.get(TRANSLATIONS) if locked else None
    if expected != (made := hash_path(checkout / TRANSLATIONS).md5):
        raise DataError(f"{TRANSLATIONS} is {made} and {LOCK} names {expected}: run dvc repro --force evaluate")
    return found


def _read(path: Path) -> TestTranslations:
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        sources, origins, hypotheses = ([row[key] for row in rows] for key in ("source", "origin", "hypothesis"))
        return TestTranslations(sources, list(map(reference_in, rows)), origins, hypotheses)
    except FileNotFoundError:
        raise DataError(f"{path} is missing: run the evaluate stage first (dvc repro evaluate)") from None
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{path} is malformed ({error}): run dvc repro --force evaluate") from None


def search_of(checkout: Path, params: Params) -> Search:
    """How the evaluation in a checkout translated.

    Raises:
        DataError: nothing there says in which precision.
    """
    try:
        name = record_path(Path(), EVALUATE).as_posix()
        record = parse_record((checkout / name).read_bytes(), name)
        precision = _precision((checkout / METRICS).read_text(encoding="utf-8"), record)
        return Search(precision, params.decoding_device)
    except (FileNotFoundError, ValueError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"in which precision {TRANSLATIONS} were made is unknown ({reason}): run dvc repro --force evaluate"
        ) from None


def _precision(metrics: str, record: Record) -> Literal["fp32", "bf16"]:
    """Scores name their precision; those from before it was a setting have it in their record only.

    Raises:
        ValueError: the scores are malformed.
        KeyError: neither names one that is known.
    """
    known: dict[str, Literal["fp32", "bf16"]] = {
        "fp32": "fp32", "float32": "fp32", "bf16": "bf16", "bfloat16": "bf16",
    }  # fmt: skip
    return known[json.loads(metrics).get("precision") or record.measured["precision"]]


def committed(
    main: Path, commit: str, checkout: Path, tests: dict[str, TestTranslations]
) -> dict[str, TestTranslations] | None:
    """The translations that are committed beside reports/metrics.json at a commit.

    None where there are none, or where they are of other test sets, or in another precision, than those that
    `checkout` has evaluated.
    """
    name = record_path(Path(), EVALUATE).as_posix()
    try:
        then = parse_record(read_at(main, commit, name), name)
        now = parse_record((checkout / name).read_bytes(), name)
        precisions = [
            _precision(metrics, record)
            for metrics, record in (
                (read_at(main, commit, METRICS), then),
                ((checkout / METRICS).read_text(encoding="utf-8"), now),
            )
        ]
        lines = {test: read_at(main, commit, f"{HYPOTHESES}/{test}.txt").split("\n")[:-1] for test in tests}
    except (UserError, FileNotFoundError, ValueError, KeyError, AttributeError):
        return None
    corpora = [{one.path: one.sha256 for one in record.inputs}.get(TEST_CORPUS) for record in (then, now)]
    if precisions[0] != precisions[1] or corpora[0] != corpora[1]:
        return None
    if any(len(lines[test]) != len(tests[test].sources) for test in tests):
        return None
    return {test: with_hypotheses(tests[test], lines[test]) for test in tests}


def with_hypotheses(test: TestTranslations, hypotheses: list[str]) -> TestTranslations:
    """Other translations of the same test set."""
    return TestTranslations(test.sources, test.references, test.origins, hypotheses)


class TranslationCache:
    """The cache, and the registered model whose versions translate what is not in it yet."""

    def __init__(self, folder: Path, registered: RegisteredModel, search: Search) -> None:
        self.folder = folder
        self.registered = registered
        self.search = search

    def keep(self, model: Version, translations: dict[str, TestTranslations]) -> None:
        """Store the translations by `model`, and their hash in MLflow."""
        for test in translations.values():
            rows = zip(test.sources, test.hypotheses, strict=True)
            lines = [json.dumps({"source": source, "hypothesis": text}, ensure_ascii=False) for source, text in rows]
            text = "".join(f"{line}\n" for line in lines)
            write_text(self._path(model, test.sources), text)
            self.registered.tag(model, self._tag(test.sources), hashlib.sha256(text.encode()).hexdigest())

    def of(
        self, model: Version, tests: dict[str, TestTranslations], *, keep: bool = True
    ) -> dict[str, TestTranslations]:
        """`model`'s translations of the sources of `tests`, beside their references and origins.

        Args:
            model: a version of the registered model.
            tests: by name.
            keep: store what had to be translated.

        Raises:
            UserError: the registered model can't translate, or is not the one that was registered.
        """
        found = {}
        for name, test in tests.items():
            hypotheses = self._kept(model, test.sources)
            if hypotheses is None:
                hypotheses = self.translate(model, test.sources)
                if keep:
                    self.keep(model, {name: with_hypotheses(test, hypotheses)})
            found[name] = with_hypotheses(test, hypotheses)
        return found

    def _kept(self, model: Version, sources: list[str]) -> list[str] | None:
        """The cached translations; None if there are none, or they are not those that were kept."""
        path = self._path(model, sources)
        if not path.exists():
            return None
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != self.registered.tags(model).get(self._tag(sources)):
            words = "%s is not what was kept for version %s, which translates again"
            logging.getLogger(__name__).warning(words, path, model.number)
            return None
        return [json.loads(line)["hypothesis"] for line in content.decode().split("\n")[:-1]]

    def _path(self, model: Version, sources: list[str]) -> Path:
        return self.folder / model.sha256 / self.search.precision / f"{_digest(sources)}.jsonl"

    def _tag(self, sources: list[str]) -> str:
        return f"translations.{self.search.precision}.{_digest(sources)[:16]}"

    def translate(self, model: Version, sources: list[str]) -> list[str]:
        """Translate with the registered weights and this checkout's code.

        Raises:
            UserError: the registered model can't translate, or is not the one that was registered.
        """
        name = self.registered.name
        try:
            return translate(self.registered.uri, name, model.number, model.sha256, self.search, sources)
        except (UserError, MlflowException, OSError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"version {model.number} of {name} can't translate the test sets: {reason}") from None


def _digest(sources: list[str]) -> str:
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()
