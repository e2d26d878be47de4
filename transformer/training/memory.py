"""How much of a device's memory an update takes, and so how many tokens a micro-batch may hold.

The arithmetic follows what autograd keeps of each sublayer (tests/transformer/training/test_fake_cuda.py tracks it
tensor by tensor) and is meant to err upwards by about a third. It knows the card's size, never what is free at the
moment: with the same class of card a run has the same micro-batches, and so the same bytes.
"""

import torch

from transformer.errors import DeviceMemoryError
from transformer.params import ModelParams
from transformer.training.objective import LARGE_CHUNK_LOGITS

PLAIN_TOKENS = 4096  # of a micro-batch where memory is the machine's: on a CPU, and on Apple's GPUs
CARD_STEP = 8 * 10**9  # cards of 22.5 to 25.7 GB, as drivers count them, are one class of 24 GB, and so on
RESERVED = 1_500_000_000  # CUDA's context, cuBLAS's workspaces, NCCL's buffers
USABLE = 0.9  # of the rest: the allocator's blocks are larger than the tensors in them
TOKEN_STEP = 1024
SHORT_SENTENCE = 16  # flash attention's backward pass has 128 rows of float32 more for each sentence


def micro_batch_tokens(
    asked: int | None,
    batch_tokens: int,
    shape: ModelParams,
    vocabulary: int,
    device: torch.device,
    precision: torch.dtype,
) -> int:
    """`training.micro_batch_tokens` as asked or, for None, as many tokens of either side as the card's class holds.

    At most twice `batch_tokens`, an update's target tokens: more would never be used.

    Raises:
        DeviceMemoryError: the weights alone leave no room.
    """
    if asked is not None:
        return asked
    if device.type != "cuda":
        return PLAIN_TOKENS
    memory = card_class(torch.cuda.get_device_properties(device).total_memory)
    fixed = bytes_without_tokens(shape, vocabulary)
    room = int((memory - RESERVED) * USABLE) - fixed
    most = room // bytes_a_token(shape, 8 * precision.itemsize) // TOKEN_STEP * TOKEN_STEP
    if most <= 0:
        raise DeviceMemoryError(
            f"the model takes {fixed / 1e9:.1f} GB before the first token, too much for a card of {memory / 1e9:.0f} "
            "GB: choose a smaller model, or state training.micro_batch_tokens to try all the same"
        )
    return min(most, -(-2 * batch_tokens // TOKEN_STEP) * TOKEN_STEP)


def card_class(total_memory: int) -> int:
    """The memory, in bytes, that cards of this one's class are sold with, rounded down."""
    return max(CARD_STEP, total_memory // CARD_STEP * CARD_STEP)


def bytes_without_tokens(shape: ModelParams, vocabulary: int) -> int:
    """What training takes however few tokens it sees."""
    d, f, keys = shape.d_model, shape.d_ff, shape.heads * shape.d_k
    attention = 2 * (keys + 1) * d + 2 * (d + 1) * d + 2 * keys
    feed_forward = 2 * d * f + f + d
    encoder, decoder = attention + feed_forward, 2 * attention + feed_forward
    weights = shape.encoder_layers * encoder + shape.decoder_layers * decoder
    embedding = vocabulary * d
    # Float32: weights, two moments, gradient. Bfloat16: the copy that products read. The embedding is used three
    # times: as many gradients before they are added. Of a chunk's logits, a few copies exist at a time.
    return 18 * (weights + embedding) + 3 * 4 * embedding + 10 * LARGE_CHUNK_LOGITS


def bytes_a_token(shape: ModelParams, bits: int) -> int:
    """Of a source token and a target token together, with products in so many bits.

    Kept for the backward pass, in units of d_model bytes: the input of each norm, 4, that of each product and its
    output, 2, dropout's mask, 1. Self-attention 2 + 6 + 2 (input, queries to values, output), cross-attention
    2 + 2 + 2 and for its source token 2 + 4; feed-forward 2, and 2 d_ff inside.
    """
    d, f = shape.d_model, shape.d_ff
    residual = 4 + 2 + 1
    encoder = (residual + 10) * d + (residual + 2) * d + 2 * f
    decoder = (residual + 10) * d + (residual + 6) * d + 6 * d + (residual + 2) * d + 2 * f
    kept = shape.encoder_layers * encoder + shape.decoder_layers * decoder + 2 * residual * d
    widest = 4 * (2 * f + 4 * d)  # gradients on their way through a layer
    attention = 4 * d * (1 + 128 // SHORT_SENTENCE)
    return (kept + widest) * bits // 16 + attention
