"""params.yaml as one checked object: the sections of all stages, and errors in the user's words."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from transformer.averaging.params import AveragingParams
from transformer.data.download.params import DownloadParams
from transformer.data.prepare.params import PreparationParams
from transformer.data.tokenize.params import TokenizationParams
from transformer.decoding.params import DecodingParams
from transformer.errors import ParamsError
from transformer.evaluation.params import EvaluationParams
from transformer.languages import LanguageParams
from transformer.model.params import ModelParams
from transformer.section import Location, Section, in_words
from transformer.training.params import TrainingParams


class Params(Section):
    """All of params.yaml."""

    languages: LanguageParams
    download: DownloadParams
    preparation: PreparationParams
    tokenization: TokenizationParams
    model: ModelParams
    training: TrainingParams
    averaging: AveragingParams
    decoding: DecodingParams
    evaluation: EvaluationParams


def load_params(path: Path) -> Params:
    """Read and check a params file.

    Raises:
        ParamsError: one line that names the file, the key, the value and what is allowed.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{path} is missing: copy one of presets/ to {path.name}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ParamsError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ParamsError(f"{path} must hold the sections {', '.join(Params.model_fields)}")
    return params_from(content, str(path))


def params_from(content: dict[str, Any], origin: str) -> Params:
    """Check the content of a params file; `origin` names it in errors."""
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise ParamsError(f"{origin}: {in_words(error, _known_keys)}") from None


def _known_keys(location: Location) -> str:
    section: type[Section] = Params
    for step in location[:-1]:
        inner = section.model_fields[str(step)].annotation
        assert isinstance(inner, type)
        assert issubclass(inner, Section)
        section = inner
    return f"allowed here: {', '.join(section.model_fields)}"
