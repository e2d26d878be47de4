"""Nested tables under dotted keys, as params and metrics are compared and as MLflow keeps them."""

import json
import math
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


def numbers(tree: dict[str, Any]) -> dict[str, float]:
    """The leaves that are finite numbers, as MLflow keeps metrics."""
    leaves = {key: value for key, value in flatten(tree).items() if isinstance(value, int | float)}
    return {key: float(value) for key, value in leaves.items() if math.isfinite(value)}


def metric_key(name: str) -> str:
    """A metric's name as MLflow takes it: letters, digits and a few signs."""
    return "".join(sign if sign.isascii() and (sign.isalnum() or sign in "_-. :/") else "_" for sign in name)
