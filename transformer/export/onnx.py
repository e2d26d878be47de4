"""For ONNX runtimes: the encoder, and one step of the decoder with what it remembers, through torch.export.

The encoder computes the keys and values that the decoder's layers attend to, once; a step takes the token before and
the keys and values of all earlier ones, and gives the logits of the next token and the longer past. Batch, source
length and the length of the past are free. A search has to be put around them: docs/exports.md has one in 25 lines.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from transformer.errors import ParamsError
from transformer.export.folder import export_folder, origin_of
from transformer.export.origin import not_installed
from transformer.model.folder import load_model
from transformer.model.layers import padding_mask
from transformer.model.transformer import Transformer
from transformer.tokens.vocabulary import BOS, PAD

PACKAGES = ("onnx", "onnxscript")  # what writes; what runs is onnxruntime, of the same extra
OPSET = 20
ENCODER_FILE, STEP_FILE = "encoder.onnx", "decoder_step.onnx"
USE = """\
Run it with any ONNX runtime:

- `encoder.onnx`, once a batch: `source`, int64 (batch, source length), ids that end with 3 (`</s>`), padded with 0,
  becomes `memory`, float32 (layers, batch, heads, source length, key and value);
- `decoder_step.onnx`, once a token: `token`, int64 (batch,), the one before, at first 2 (`<s>`); `past`, at first
  `memory[..., :0, :]`; `memory` and `source` become `logits` (batch, pieces) and `grown`, the next step's past.

`spm.model`, a SentencePiece model, cuts text into ids, of which 0 to 2 are never to be emitted. `export.json` has
`max_positions`, the longest sentence with its end, `decoding.json` `max_extra_length`: a translation has at most so
many tokens more than its source. docs/exports.md has a greedy search in 25 lines.
"""


def export_onnx(model: Path, folder: Path) -> None:
    """Write `folder`, with encoder.onnx and decoder_step.onnx; replaces one of an earlier export.

    Raises:
        ParamsError: a package is not installed.
        DataError: the model folder is incomplete or malformed, or `folder` is there and is no export.
    """
    if missing := missing_package():
        raise missing
    network = load_model(model, torch.device("cpu")).model
    with export_folder(folder, model, origin_of(model, "onnx", None), USE) as new:
        for name, proto in ((ENCODER_FILE, encoder_proto(network)), (STEP_FILE, step_proto(network))):
            (new / name).write_bytes(proto)


def missing_package() -> ParamsError | None:
    """What to do where a package is missing that writes."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    return not_installed(missing[0], "onnx") if missing else None


class Encoder(nn.Module):
    """What the decoder's layers attend to."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, source: Tensor) -> Tensor:
        """Keys and values (layers, batch, heads, source length, d_k + d_v) of ids (batch, source length)."""
        encoded = self.model.encode(source, padding_mask(source, PAD))
        layers = self.model.decoder_layers
        return torch.stack([torch.cat(layer.cross_attention.keys_values(encoded), dim=-1) for layer in layers])


class DecoderStep(nn.Module):
    """The next token's logits, and the past with the token before."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model
        attention = model.decoder_layers[0].self_attention
        self.sizes = [width // attention.heads for width in attention.widths[1:]]  # d_k, d_v

    def forward(self, token: Tensor, past: Tensor, memory: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (batch, vocabulary) and the past after `token` (batch,), which stands behind `past`'s tokens."""
        model, position = self.model, past.size(3)
        x = model.positions(model.embedding(token[:, None]), torch.arange(position, position + 1))
        mask, grown = padding_mask(source, PAD), []
        for layer, before, attended in zip(model.decoder_layers, past, memory, strict=True):
            x, longer = layer.step(x, self._split(before), self._split(attended), mask)
            grown.append(torch.cat(longer, dim=-1))
        return model.embedding.logits(model.decoder_norm(x)[:, 0]), torch.stack(grown)

    def _split(self, both: Tensor) -> tuple[Tensor, Tensor]:
        key, value = both.split(self.sizes, dim=-1)
        return key, value


def encoder_proto(model: Transformer) -> bytes:
    """encoder.onnx."""
    source, free = _example(), {0: "batch", 1: "source_length"}
    return _proto(Encoder(model), {"source": source}, ["memory"], {"source": free})


def step_proto(model: Transformer) -> bytes:
    """decoder_step.onnx."""
    source = _example()
    with torch.inference_mode():
        memory = Encoder(model)(source)
    inputs = {
        "token": torch.full((len(source),), BOS),
        "past": memory[..., :2, :].clone(),
        "memory": memory.clone(),
        "source": source,
    }
    free = {
        "token": {0: "batch"},
        "past": {1: "batch", 3: "past_length"},
        "memory": {1: "batch", 3: "source_length"},
        "source": {0: "batch", 1: "source_length"},
    }
    return _proto(DecoderStep(model), inputs, ["logits", "grown"], free)


@contextmanager
def _silence() -> Iterator[None]:
    """torch tells that torchvision is not there, and of its own ways that are out of date."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            exporter.setLevel(level)


def _example() -> Tensor:
    """A batch of sources; its sizes say nothing, but 0 and 1 would be taken for constants."""
    return torch.full((2, 3), BOS)


def _proto(
    module: nn.Module, inputs: dict[str, Tensor], outputs: list[str], free: dict[str, dict[int, str]]
) -> bytes:
    """The module as ONNX, without what torch notes of the machine and the code that it was made with."""
    dims = {name: torch.export.Dim(name) for axes in free.values() for name in axes.values()}
    with _silence():
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes={name: {axis: dims[dim] for axis, dim in axes.items()} for name, axes in free.items()},
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    proto: Any = program.model_proto
    for part in (*proto.graph.node, *proto.graph.value_info, *proto.graph.initializer, *proto.graph.input,
                 *proto.graph.output, proto.graph, proto):  # fmt: skip
        part.ClearField("metadata_props")
    written: bytes = proto.SerializeToString(deterministic=True)
    return written
