"""What the presets hold under the keys of the paper's table, and the sizes of their networks."""

from pathlib import Path
from typing import Any

import torch

from transformer.data.download.registry import Corpus, load_registry
from transformer.model.transformer import Transformer
from transformer.paper.values import PRESETS, VALID_PARTS, Four, Plain
from transformer.params import Params, load_params


class Presets:
    """The four presets of a checkout, and its corpus registry.

    Raises:
        ParamsError: a file is missing or malformed.
    """

    def __init__(self, checkout: Path) -> None:
        self.params = [load_params(checkout / "presets" / f"{name}.yaml") for name in PRESETS]
        self.registry = load_registry(checkout / "data" / "corpora.yaml")

    def held(self, key: str) -> Four:
        """The values of `key`, spelled as in `Value`; lists as their members between commas."""
        one, two, three, four = (self._value(params, key) for params in self.params)
        return one, two, three, four

    def parameters(self) -> list[float]:
        """Millions of parameters of each preset's network, with as many pieces as its vocabulary has."""
        with torch.device("meta"):
            networks = [Transformer(one.model, one.tokenization.vocabulary_size) for one in self.params]
        return [sum(weight.numel() for weight in network.parameters()) / 1e6 for network in networks]

    def _value(self, params: Params, key: str) -> Plain:
        if key == VALID_PARTS:
            corpora = [self.registry[name] for name in params.download.corpora]
            parts = [part for corpus in corpora if isinstance(corpus, Corpus) for part in corpus.parts]
            return ", ".join(part.name for part in parts if part.split == "valid")
        if " / " in key:
            above, below = (_leaf(params, name) for name in key.split(" / "))
            return float(above / below)
        value: Plain | list[str] | None = _leaf(params, key)
        if value is None:
            return "none"
        return ", ".join(value) if isinstance(value, list) else value


def _leaf(params: Params, key: str) -> Any:
    section, name = key.split(".")
    return getattr(getattr(params, section), name)
