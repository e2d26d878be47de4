"""Packed batches of few sizes, so that updates can be replayed as CUDA graphs: `benchmarks.training --cuda-graphs`.

A graph is recorded for each size. Rows here are a multiple of `ROW_STEP` tokens and have a multiple of
`SENTENCE_STEP` spans; what is missing is padding, in spans of their own, and spans of no tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer.model.packing import Packing, Spans
from transformer.model.transformer import Transformer
from transformer.tokens.vocabulary import PAD
from transformer.training.batching import PACKED_STEP, Batch
from transformer.training.objective import Network

ROW_STEP = 2048
SENTENCE_STEP = 256


def widened(batch: Batch) -> Batch:
    """The packed `batch` in the next of few sizes; its last span, padding, is replaced by as many as are needed."""
    assert batch.packing is not None
    spans: list[Spans] = list(batch.packing)
    ends = [int(side.offsets[-2]) for side in spans]  # behind the last sentence
    sentences = len(spans[0].offsets) - 2
    pieces = ROW_STEP // PACKED_STEP + 2  # of padding, none empty and none longer than PACKED_STEP
    widths = [-(-(end + pieces) // ROW_STEP) * ROW_STEP for end in ends]
    if widths[0] == widths[1]:
        widths[0] += ROW_STEP  # see `transformer.training.batching.pack`
        pieces += ROW_STEP // PACKED_STEP
    count = -(-(sentences + pieces) // SENTENCE_STEP) * SENTENCE_STEP
    wide = Packing(*map(_widened_spans, spans, ends, widths, [pieces] * 2, [count] * 2))
    source = _filled(batch.source, widths[0])
    target_in, target_out = (_filled(row, widths[1]) for row in (batch.target_in, batch.target_out))
    return Batch(source, target_in, target_out, wide)


def _widened_spans(spans: Spans, end: int, width: int, pieces: int, count: int) -> Spans:
    padding = torch.linspace(end, width, pieces + 1).round().int()
    edges = torch.cat([spans.offsets[:-2], padding])
    edges = F.pad(edges, (0, count + 1 - len(edges)), value=width)
    positions = F.pad(spans.positions, (0, width - len(spans.positions)))
    return Spans(edges, positions, spans.longest)


def _filled(row: Tensor, width: int) -> Tensor:
    return F.pad(row, (0, width - row.size(1)), value=PAD)


def graphed(model: Transformer, smoothing: float, precision: torch.dtype) -> Network:
    """The compiled network, its forward and backward passes replayed as CUDA graphs."""
    network = Network(model, smoothing, precision, compiled=True)
    network._hidden = torch.compile(model.hidden, fullgraph=True, mode="reduce-overhead")
    return network
