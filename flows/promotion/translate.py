"""Translate with a registered model and its own code: `python -P translate.py TRACKING_URI MODEL SOURCES TARGET`.

SOURCES and TARGET are JSON lists of texts. The only code of this project that runs is the model's own copy.
"""

import json
import sys
from pathlib import Path

import mlflow


def main(uri: str, model: str, sources: str, target: str) -> None:
    """Load the model and write its translations."""
    mlflow.set_tracking_uri(uri)
    texts = json.loads(Path(sources).read_text(encoding="utf-8"))
    translated = mlflow.pyfunc.load_model(model).predict(texts)
    Path(target).write_text(json.dumps(list(translated)), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
