"""The registered model as MLflow loads and serves it: one column of lines in, their translations out.

MLflow stores this file beside a copy of `transformer/`, so the model loads without the checkout. It translates as
`transformer translate` does.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class TranslatorModel(PythonModel):
    """Beam search with the model folder in the artifacts."""

    def load_context(self, context: Any) -> None:
        """Load the model folder.

        Raises:
            MlflowException: it is not the one that was registered.
        """
        # Here: importable only once the model is loaded.
        from transformer.data.cleaning import resolve_entities
        from transformer.decoding.translator import Translator
        from transformer.files import sha256_of

        folder, registered = (Path(context.artifacts[name]) for name in ("model", "sha256"))
        expected = registered.read_text(encoding="utf-8")
        if (found := sha256_of(folder)) != expected:
            raise MlflowException(f"the model has sha256 {found[:12]}, not {expected[:12]} as when it was registered")
        self._translator, self._resolved = Translator.load(folder), resolve_entities

    def predict(self, model_input: pd.DataFrame) -> list[str]:
        """Translate lines in order; an empty one stays empty.

        Raises:
            MlflowException: a value is missing.
        """
        lines = model_input.iloc[:, 0].tolist()
        if wrong := [place for place, line in enumerate(lines) if not isinstance(line, str)]:
            raise MlflowException.invalid_parameter_value(f"line {wrong[0]} is no text (lines count from 0)")
        return self._translator.translate([self._resolved(line) for line in lines])


set_model(TranslatorModel())
