"""YAML as DVC writes and reads it, parsed quickly."""

import re
from typing import Any

import yaml


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # the C one where it was built
    """YAML 1.2's numbers, which DVC writes: 1e-09 is one, though YAML 1.1 takes it for text."""


_FLOAT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789"))


def parse_yaml(text: str | bytes) -> Any:
    """The content of dvc.yaml, dvc.lock, params.yaml or the corpus registry.

    Raises:
        yaml.YAMLError: it is no YAML.
    """
    return yaml.load(text, Loader=_Loader)
