"""The files of a registered version, of which only data is used: the code that lies beside it never runs here.

MLflow's own loading would execute that code, which comes from whoever can write to the registry or to its artifacts.
"""

from pathlib import Path

import mlflow

from transformer.errors import DataError
from transformer.files import sha256_of

FOLDER = "artifacts/model"  # where MLflow keeps the model folder: safetensors, JSON, SentencePiece


def fetched(uri: str, name: str, number: str, sha256: str, folder: Path) -> Path:
    """The model folder of version `number` of the registered model `name`, below `folder`.

    Raises:
        DataError: the registered model folder is not the one with the hash `sha256`.
        MlflowException: the registry at `uri` does not have it.
    """
    stored = mlflow.MlflowClient(tracking_uri=uri).get_model_version_download_uri(name, number)
    path = Path(mlflow.artifacts.download_artifacts(f"{stored}/{FOLDER}", dst_path=str(folder), tracking_uri=uri))
    if (found := sha256_of(path)) != sha256:
        raise DataError(f"it has sha256 {found[:12]}, not {sha256[:12]} as when it was registered")
    return path
