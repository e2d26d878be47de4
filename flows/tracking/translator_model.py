"""The registered model as MLflow loads it: a list (or one column) of sentences in, their translations out.

MLflow stores this file beside a copy of `transformer/`, so the model loads without the checkout.
"""

from pathlib import Path
from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class TranslatorModel(PythonModel):
    """Beam search with the model folder in the artifacts."""

    def load_context(self, context: Any) -> None:
        """Load the model folder."""
        from transformer.decoding.translator import Translator  # here: importable only once the model is loaded

        self._translator = Translator.load(Path(context.artifacts["model"]))

    def predict(self, model_input: list[str]) -> list[str]:
        """Translate sentences in order."""
        return self._translator.translate(model_input)


set_model(TranslatorModel())
