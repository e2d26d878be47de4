"""Candidates of chosen quality, in a real MLflow registry, and their settlement."""

import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
from tiny_inputs import synthetic_pairs

from flows.promotion.gate import Decision, TestTranslations
from flows.promotion.registered_model import RegisteredModel, Version
from flows.promotion.settle import Answer, Candidate, Rule, Settlement, settle
from flows.promotion.translate import Search
from flows.promotion.translations import TranslationCache

MODEL = "transformer-en-de"
SEARCH = Search("fp32", "cpu")


class Retrainings:
    """A main workspace with a registry, in which candidates of chosen quality are settled."""

    def __init__(self, main: Path, store: Path) -> None:
        shutil.copyfile(store, main / "mlflow.db")
        self.main = main
        uri = f"sqlite:///{main}/mlflow.db"
        self.client = mlflow.MlflowClient(tracking_uri=uri)
        self.client.create_registered_model(MODEL)
        self.registry = RegisteredModel(uri, MODEL)
        self.asked: list[Decision] = []

    def candidate(self, wrong: int) -> Candidate:
        """A registered model that reverses the first `wrong` of 60 sentences."""
        sha256 = f"{wrong:064x}"
        made = self.client.create_model_version(MODEL, source=str(self.main), tags={"sha256": sha256})
        sources, references = map(list, zip(*synthetic_pairs(60), strict=True))
        hypotheses = [
            " ".join(reversed(text.split())) if row < wrong else text for row, text in enumerate(references)
        ]
        tests = {"tiny": TestTranslations(sources, references, ["tiny"] * 60, hypotheses)}
        return Candidate(
            Version(str(made.version), sha256), tests, "de", "retraining/x", "abc", f"run-{wrong}", SEARCH
        )

    def translate(self, *candidates: Candidate) -> None:
        """Have them translate, as they would on demand if they were whole models."""
        for candidate in candidates:
            cache = TranslationCache(self.main / "work" / "translations", self.registry, candidate.search)
            cache.keep(candidate.version, candidate.tests)

    def settle(
        self, candidate: Candidate, rule: Rule = "auto", answer: Callable[[], Answer] | None = None
    ) -> Settlement:
        def ask(decision: Decision, _champion: Version | None) -> Answer:
            self.asked.append(decision)
            assert answer is not None
            return answer()

        return settle(self.main, candidate, self.registry, rule, 0.05, ask)
