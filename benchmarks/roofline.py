"""What an update costs at least on a GPU, part by part: operations, bytes, and which of the two is the limit.

    python -m benchmarks.roofline --preset wmt14-en-de-base
    python -m benchmarks.roofline --preset wmt14-en-de-big --teraflops 790 --terabytes 3

Calculated from the shapes, without a GPU. Bytes are those of the kernels that torch 2.11's Inductor generates for an
H100 (docs/scale.md says which); products, of operands and results. Sentences have newstest's lengths.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.newstest import sentence_lengths
from benchmarks.presets import add_preset, preset_params
from transformer.params import ModelParams
from transformer.training.objective import LARGE_CHUNK_LOGITS
from transformer.training.throughput import PEAK_BFLOAT16, training_flops

TILE = 128  # rows of queries, and of keys, that flash attention computes at a time
CARD = "NVIDIA H100 80GB HBM3"


@dataclass(frozen=True)
class Part:
    """Work of one kind in one update: operations that the tensor cores do, and bytes to and from the memory."""

    name: str
    operations: float
    bytes: float

    def seconds(self, flops: float, bandwidth: float) -> float:
        """The least time, at so many operations and bytes a second."""
        return max(self.operations / flops, self.bytes / bandwidth)


@dataclass(frozen=True)
class Tokens:
    """An update: of each side, how many tokens; and how many sentences."""

    source: int
    target: int
    sentences: int


def products(shape: ModelParams, tokens: Tokens, vocabulary: int) -> Iterator[Part]:
    """Each product of a row of tokens with a matrix, and the two of its backward pass."""
    d, f = shape.d_model, shape.d_ff
    encoder = [(tokens.source, d, 3 * d), (tokens.source, d, d), (tokens.source, d, f), (tokens.source, f, d)]
    decoder = [(tokens.target, d, 3 * d), *[(tokens.target, d, d)] * 3, (tokens.target, d, f), (tokens.target, f, d)]
    memory = [(tokens.source, d, 2 * d)]
    sizes = encoder * shape.encoder_layers + (decoder + memory) * shape.decoder_layers
    for rows, inner, outer in [*sizes, (tokens.target, d, vocabulary)]:
        for _ in range(3):
            yield Part("", 2.0 * rows * inner * outer, 2.0 * (rows * inner + inner * outer + rows * outer))


def others(shape: ModelParams, tokens: Tokens, vocabulary: int) -> list[Part]:
    """All but the products. Bytes a number: 2 in bfloat16, 4 in float32, 1 in a mask."""
    d, f, layers = shape.d_model, shape.d_ff, (shape.encoder_layers, shape.decoder_layers)
    source, target = tokens.source * layers[0], tokens.target * layers[1]
    matrices = layers[0] * (4 * d * d + 2 * d * f) + layers[1] * (8 * d * d + 2 * d * f)
    weights, embedding = matrices + vocabulary * d, vocabulary * d
    # Forward: x 4 and the sublayer's output 2, to the mask 1, the normalised 4 and the next product's input 2.
    # Backward: two gradients 4 + 2, the normalised 4 and the mask 1, to 4 + 2.
    residuals = (13 + 17) * d * (2 * source + 3 * target)
    # Forward in place 4 and a mask 1; backward 4 and the mask 1.
    relu = 10 * f * (source + target)
    # Gradients of biases read each product's bfloat16 gradient once more.
    outputs = source * (5 * d + f) + target * (7 * d + f) + tokens.source * layers[1] * 2 * d
    attentions = layers[0] + 2 * layers[1]
    rows = attentions * tokens.target
    tiles = attentions * tokens.sentences * TILE * TILE  # a sentence of up to 128 tokens takes a whole one
    spread = attentions * (tokens.target + TILE * tokens.sentences)  # rows of dQ's float32 sums
    chunks = -(-tokens.target * vocabulary // LARGE_CHUNK_LOGITS)
    return [
        Part("attention", 14.0 * tiles * d, rows * d * (8 + 16 + 12) + spread * d * 16.0),
        Part("dropout, residuals, norms", 0, float(residuals)),
        Part("ReLU", 0, float(relu)),
        Part("gradients of biases", 0, 2.0 * outputs),
        Part("embeddings and positions", 0, (4 + 1 + 2 + 4 + 8 + 2) * d * float(tokens.source + tokens.target)),
        Part("loss", 0, 8.0 * tokens.target * vocabulary),  # read 3 times for one row's maximum, sum and gradient
        # Each chunk's share of the projection's gradient is added in float32; two of the lookups are filled with
        # zeros, written and added; the sum of the three is scaled.
        Part("gradient of the embedding", 0, embedding * (chunks * 10.0 + 2 * 8 + 12 + 12 + 8)),
        Part("casts of weights and gradients", 0, (6.0 + 6.0) * weights),
        Part("Adam", 0, 28.0 * weights),
    ]


def table(shape: ModelParams, vocabulary: int, target_tokens: int, flops: float, bandwidth: float) -> list[str]:
    """The parts of an update and their limits, and what they add up to."""
    source, target = sentence_lengths(target_tokens)
    count = int(np.searchsorted(target.cumsum(), target_tokens))
    tokens = Tokens(int(source[:count].sum()), int(target[:count].sum()), count)
    each = list(products(shape, tokens, vocabulary))
    whole = Part("products", sum(part.operations for part in each), sum(part.bytes for part in each))
    timed = [(whole, sum(part.seconds(flops, bandwidth) for part in each))]
    timed += [(part, part.seconds(flops, bandwidth)) for part in others(shape, tokens, vocabulary)]
    total = sum(seconds for _, seconds in timed)
    lines = ["| part | TFLOP | GB | at least, ms | share |", "|---|---|---|---|---|"]
    for part, seconds in timed:
        lines.append(
            f"| {part.name} | {part.operations / 1e12:.2f} | {part.bytes / 1e9:.2f} | {1e3 * seconds:.2f} "
            f"| {seconds / total:.0%} |"
        )
    needed = training_flops(shape, vocabulary, source[:count], target[:count])
    share = needed / total / PEAK_BFLOAT16[CARD]
    lines.append(f"| all, one after the other | {needed / 1e12:.2f} needed | | {1e3 * total:.2f} | MFU {share:.0%} |")
    return lines


def main() -> None:
    """Print the table of a preset."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_preset(parser)
    parser.add_argument("--teraflops", type=float, default=790.0, help="measured of bfloat16 products")
    parser.add_argument("--terabytes", type=float, default=3.0, help="a second, measured of copies")
    asked = parser.parse_args()
    params = preset_params(asked.preset)
    pieces, tokens = params.tokenization.vocabulary_size, params.training.batch_target_tokens
    print("\n".join(table(params.model, pieces, tokens, asked.teraflops * 1e12, asked.terabytes * 1e12)))


if __name__ == "__main__":
    main()
