"""Speed of beam search over as many sentences of newstest's lengths as newstest2014 has.

    python -m benchmarks.decoding --preset wmt14-en-de-base
    python -m benchmarks.decoding --preset interface-strings --sentences 100

The weights are random, and a random network ends its sentences too late: a hypothesis may have at most
`--extra` tokens more than its source, where a trained one has about as many, so that each search takes more steps
than a trained network's. Needs torch and the library's own dependencies only.
"""

import argparse
import time
from pathlib import Path

import torch

from benchmarks.newstest import sentence_lengths
from benchmarks.static_decoder import StaticDecoder
from transformer.decoding.search import beam_search
from transformer.decoding.translator import batches_by_length
from transformer.model.device import autocast, select_device, select_precision
from transformer.model.transformer import Transformer
from transformer.params import load_params
from transformer.tokens.vocabulary import EOS, PAD

PRESETS = Path(__file__).parents[1] / "presets"


def main() -> None:
    """Translate the sentences twice with each decoder, and print the time of the second."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", required=True, help="a name in presets/, such as wmt14-en-de-base")
    parser.add_argument("--sentences", type=int, default=3003, help="newstest2014 has 3003")
    parser.add_argument("--extra", type=int, default=10, help="tokens of a translation beyond its source's")
    parser.add_argument("--cuda-graphs", action="store_true", help="also with tensors of one size, in CUDA graphs")
    asked = parser.parse_args()
    params = load_params(PRESETS / f"{asked.preset}.yaml")
    decoding = params.decoding.model_copy(update={"max_extra_length": asked.extra})
    device = select_device("auto")
    precision = select_precision(params.training.precision, device)
    torch.manual_seed(1)
    pieces = params.tokenization.vocabulary_size
    model = Transformer(params.model, pieces).to(device).eval()
    lengths = sentence_lengths(asked.sentences)[0].tolist()
    sources = [[*torch.randint(EOS + 1, pieces, (length - 1,)).tolist(), EOS] for length in lengths]
    decoders: dict[str, Transformer | StaticDecoder] = {"": model}
    if asked.cuda_graphs:
        graphs = device.type == "cuda"
        name = "static sizes, CUDA graphs: " if graphs else "static sizes, no CUDA graphs on this device: "
        decoders[name] = StaticDecoder(model, asked.extra, graphs=graphs)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    for which, decoder in decoders.items():
        for _ in range(2):  # the first time warms up
            begun, tokens = time.monotonic(), 0
            for batch in batches_by_length(lengths, decoding.batch_tokens):
                longest = lengths[batch[0]]
                padded = torch.tensor([sources[index] + [PAD] * (longest - lengths[index]) for index in batch])
                with autocast(device, precision):
                    found = beam_search(decoder, padded.to(device), decoding)
                tokens += sum(len(hypotheses[0].tokens) + 1 for hypotheses in found)
            seconds = time.monotonic() - begun
        print(
            f"{which}{asked.preset}: {asked.sentences} sentences, beam {decoding.beam}, {tokens:,} tokens in "
            f"{seconds:.1f} s ({tokens / seconds:,.0f} tokens/s), {name}, {str(precision).removeprefix('torch.')}, "
            f"torch {torch.__version__}",
            flush=True,
        )


if __name__ == "__main__":
    main()
