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
    # From a copy in the working folder: MLflow takes a % in the path of its own folder for the start of an escape.
    copy = mlflow.artifacts.download_artifacts(model, dst_path=".")
    translated = mlflow.pyfunc.load_model(copy).predict(texts)
    Path(target).write_text(json.dumps(list(translated)), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
