"""Params of a retraining: a params file of the revision with single values replaced, its comments kept."""

import io
import re
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq

from transformer.errors import ParamsError
from transformer.params import Params, parse_params
from transformer.section import did_you_mean


def overridden(text: str, origin: str, overrides: Mapping[str, Any]) -> tuple[str, Params]:
    """The params file `text` (named `origin` in errors) with values replaced by dotted key, as text and checked.

    Raises:
        ParamsError: one line that names the key, the value and what is allowed.
    """
    parse_params(text, origin)  # first, so that an error in the file is not blamed on an override
    writer = commented_yaml()
    document = writer.load(text)
    for key, value in overrides.items():
        _replace(document, key, value)
    changed = io.StringIO()
    writer.dump(document, changed)
    # ruamel.yaml leaves no space before a comment when a list reaches the comment's column.
    result = re.sub(r"^(\s+\w+: \[[^]#]*\])#", r"\1 #", changed.getvalue(), flags=re.MULTILINE)
    return result, parse_params(result, f"{origin} with overrides")


def _replace(document: dict[str, Any], key: str, value: Any) -> None:
    section: Any = document
    *path, name = key.split(".")
    for step in path:
        if not isinstance(section.get(step), dict):
            break
        section = section[step]
    else:
        if name in section and not isinstance(section[name], dict):
            section[name] = _on_one_line(value)
            return
        if name in section:
            raise ParamsError(
                f"overrides: {key} is a section: name one of its keys, as {key}.{next(iter(section[name]))}"
            )
    known = [f"{name}.{inner}" for name, keys in document.items() if isinstance(keys, dict) for inner in keys]
    raise ParamsError(f"overrides: {key} is not a key; allowed here: {', '.join(section)}{did_you_mean(key, known)}")


def _on_one_line(value: Any) -> Any:
    """A list as `[a, b]`, so that a comment behind it stays there."""
    if not isinstance(value, list):
        return value
    line = CommentedSeq(value)
    line.fa.set_flow_style()
    return line


def commented_yaml() -> YAML:
    """A reader and writer that keeps comments, quotes, long lines, and `null` as it is written."""
    kept = YAML()
    kept.indent(mapping=2, sequence=4, offset=2)
    kept.width = 4096
    kept.preserve_quotes = True
    kept.representer.add_representer(
        type(None), lambda dumper, _none: dumper.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return kept
