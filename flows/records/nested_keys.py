"""Nested tables under dotted keys, as params and metrics are compared and as MLflow keeps them."""

import json
from typing import Any


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of nested dicts under dotted keys."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves.update(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return leaves


def as_texts(tree: dict[str, Any]) -> dict[str, str]:
    """The same with each leaf as text, written as JSON if it is not a string, as MLflow keeps params."""
    leaves = flatten(tree).items()
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in leaves}
