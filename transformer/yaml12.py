"""YAML 1.2, as DVC reads and writes it: `1e-8` is a number, `no` and `on` are text, a repeated key is an error."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError


class InvalidYamlError(ValueError):
    """Text that is not YAML; the message says in one line of which file, in which of its lines, and why."""


def read_yaml(path: Path) -> Any:
    """The content of a YAML file, as plain Python objects.

    Raises:
        FileNotFoundError: there is none.
        InvalidYamlError: it is not YAML.
    """
    return parse_yaml(path.read_bytes(), str(path))


def parse_yaml(text: str | bytes, origin: str) -> Any:
    """The content of YAML text (bytes: in UTF-8), as plain Python objects; `origin` names it in errors.

    Raises:
        InvalidYamlError: it is not YAML.
    """
    try:
        return YAML(typ="safe").load(text)
    except MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InvalidYamlError(
            f"{origin}{line}: not YAML: {_one_line(error.problem).partition(' with value ')[0]}"
        ) from None
    except RecursionError:
        raise InvalidYamlError(f"{origin}: not YAML: nested too deeply") from None
    except (YAMLError, ValueError) as error:  # ValueError: a date that does not exist
        raise InvalidYamlError(f"{origin}: not YAML: {_one_line(error)}") from None


def _one_line(problem: object) -> str:
    return " ".join(str(problem).split())
