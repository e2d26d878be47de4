"""Translations of the test sets: the candidate's from its evaluation, the champion's from a cache or made again.

`work/translations/<model sha256>/<sources' sha256>.jsonl` holds one JSON object per sentence. The settings of the
search are in the model folder, and so in its hash.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from flows.promotion.gate import TestTranslations
from flows.promotion.registered_model import RegisteredModel, Version
from transformer.errors import DataError, UserError
from transformer.evaluation.references import reference_in
from transformer.files import write_text

PROGRAM = Path(__file__).with_name("translate.py")


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
            UserError: the registered model can't translate; names its last line of output.
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
        """With the code that was registered with the model, in a process that cannot import ours."""
        address = f"models:/{self.registered.name}/{model.number}"
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder, "sources.json"), Path(folder, "hypotheses.json")]
            files[0].write_text(json.dumps(sources), encoding="utf-8")
            command = [sys.executable, "-P", str(PROGRAM), self.registered.uri, address, *map(str, files)]
            done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if done.returncode != 0:
                last = (done.stdout.strip().splitlines() or ["no reason given"])[-1]
                raise UserError(f"the champion {address} can't translate the test sets: {last}")
            hypotheses: list[str] = json.loads(files[1].read_text(encoding="utf-8"))
            return hypotheses
