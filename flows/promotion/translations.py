"""Translations of the test sets: the candidate's from its evaluation, the champion's from a cache or made again.

`work/translations/<model sha256>/<sources' sha256>.jsonl` holds one JSON object per sentence. The settings of the
search are in the model folder, and so in its hash.
"""

import hashlib
import json
from pathlib import Path

from mlflow.exceptions import MlflowException

from flows.promotion.gate import TestTranslations
from flows.promotion.registered_model import RegisteredModel, Version
from flows.promotion.translate import translate
from transformer.errors import DataError, UserError
from transformer.evaluation.references import reference_in
from transformer.files import write_text


def evaluated(reports: Path, test_sets: list[str]) -> dict[str, TestTranslations]:
    """What the evaluate stage wrote, by test set.

    Raises:
        DataError: a file is missing or malformed.
    """
    return {name: _read(reports / "translations" / f"{name}.jsonl") for name in test_sets}


def _read(path: Path) -> TestTranslations:
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        sources, origins, hypotheses = ([row[key] for row in rows] for key in ("source", "origin", "hypothesis"))
        return TestTranslations(sources, list(map(reference_in, rows)), origins, hypotheses)
    except FileNotFoundError:
        raise DataError(f"{path} is missing: run the evaluate stage first (dvc repro evaluate)") from None
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{path} is malformed ({error}): run dvc repro --force evaluate") from None


class TranslationCache:
    """The cache, and the registered model whose versions translate what is not in it yet."""

    def __init__(self, folder: Path, registered: RegisteredModel) -> None:
        self.folder = folder
        self.registered = registered

    def keep(self, model: Version, translations: dict[str, TestTranslations]) -> None:
        """Store the translations by `model`."""
        for test in translations.values():
            rows = zip(test.sources, test.hypotheses, strict=True)
            lines = [json.dumps({"source": source, "hypothesis": text}, ensure_ascii=False) for source, text in rows]
            write_text(self._path(model, test.sources), "".join(f"{line}\n" for line in lines))

    def of(self, model: Version, tests: dict[str, TestTranslations]) -> dict[str, TestTranslations]:
        """`model`'s translations of the sources of `tests`, beside their references and origins.

        Raises:
            UserError: the registered model can't translate, or is not the one that was registered.
        """
        found = {}
        for name, test in tests.items():
            path = self._path(model, test.sources)
            if not path.exists():
                hypotheses = self._translate(model, test.sources)
                new = TestTranslations(test.sources, test.references, test.origins, hypotheses)
                self.keep(model, {name: new})
            lines = path.read_text(encoding="utf-8").split("\n")[:-1]
            hypotheses = [json.loads(line)["hypothesis"] for line in lines]
            found[name] = TestTranslations(test.sources, test.references, test.origins, hypotheses)
        return found

    def _path(self, model: Version, sources: list[str]) -> Path:
        digest = hashlib.sha256(json.dumps(sources).encode()).hexdigest()
        return self.folder / model.sha256 / f"{digest}.jsonl"

    def _translate(self, model: Version, sources: list[str]) -> list[str]:
        name = self.registered.name
        try:
            return translate(self.registered.uri, name, model.number, model.sha256, sources)
        except (UserError, MlflowException, OSError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"version {model.number} of {name} can't translate the test sets: {reason}") from None
