"""Speed of beam search over as many sentences of newstest's lengths as newstest2014 has.

    python -m benchmarks.decoding --preset wmt14-en-de-base
    python -m benchmarks.decoding --preset interface-strings --sentences 100
    python -m benchmarks.decoding --model models/averaged --ctranslate2 FOLDER --hugging-face FOLDER

The weights are random, and a random network ends its sentences too late: a hypothesis may have at most
`--extra` tokens more than its source, where a trained one has about as many, so that each search takes more steps
than a trained network's. Needs torch and the library's own dependencies only.

With `--model`, a trained model translates a test set by turns with other software that has its weights, from folders
of `transformer export` (benchmarks/decoding_peers.py).
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.newstest import sentence_lengths
from benchmarks.presets import preset_names, preset_params
from transformer.decoding.line_translator import batches_by_length
from transformer.decoding.search import beam_search
from transformer.decoding.stepping import SteppingNetwork
from transformer.model.device import autocast, select_device, select_search_precision
from transformer.model.transformer import Transformer
from transformer.params import Params
from transformer.tokens.vocabulary import EOS, PAD

TEST_SET = Path("data/corpus/test.parquet")
NEWSTEST_SENTENCES = 3003  # of newstest2014
EXTRA_LENGTH = 10


@dataclass(frozen=True)
class Decoded:
    """The second translation of all sentences; the first has warmed up."""

    sentences: int
    beam: int
    tokens: int  # of the best hypotheses, ends of sentences included
    seconds: float
    device: str
    precision: str


def main() -> None:
    """Translate the sentences twice, and print the time of the second."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--preset", choices=preset_names())
    which.add_argument("--model", type=Path, help="a trained model's folder, beside other software on a test set")
    parser.add_argument("--test", type=Path, default=TEST_SET, help="of --model (default: %(default)s)")
    parser.add_argument("--ctranslate2", type=Path, help="of --model: its export for CTranslate2")
    parser.add_argument("--hugging-face", type=Path, help="of --model: its export for Hugging Face")
    parser.add_argument("--rounds", type=int, default=5, help="of --model (default: %(default)s)")
    parser.add_argument("--busy", type=int, default=0, help="of --model: processes that compute beside it")
    parser.add_argument("--sentences", type=int, default=NEWSTEST_SENTENCES, help="default: newstest2014's 3003")
    parser.add_argument("--extra", type=int, default=EXTRA_LENGTH, help="tokens of a translation beyond its source's")
    asked = parser.parse_args()
    if asked.model:
        from benchmarks.decoding_peers import compare  # here, as a bare machine lacks what it needs

        named = {"CTranslate2": asked.ctranslate2, "Hugging Face generate": asked.hugging_face}
        folders = {name: folder for name, folder in named.items() if folder}
        return compare(asked.model, asked.test, folders, asked.rounds, asked.busy)
    found = decode_random(preset_params(asked.preset), asked.sentences, asked.extra)
    print(
        f"{asked.preset}: {found.sentences} sentences, beam {found.beam}, {found.tokens:,} tokens in "
        f"{found.seconds:.1f} s ({found.tokens / found.seconds:,.0f} tokens/s), {found.device}, "
        f"{found.precision}, torch {torch.__version__}"
    )


def decode_random(params: Params, sentences: int, extra: int = EXTRA_LENGTH, device: str = "auto") -> Decoded:
    """Translate sentences of newstest's lengths twice with random weights, and time the second time."""
    decoding = params.decoding.model_copy(update={"max_extra_length": extra})
    chosen = select_device(device)
    precision = select_search_precision(decoding.precision, chosen)
    torch.manual_seed(1)
    pieces = params.tokenization.vocabulary_size
    model = Transformer(params.model, pieces).to(chosen).eval()
    lengths = sentence_lengths(sentences)[0].tolist()
    sources = [[*torch.randint(EOS + 1, pieces, (length - 1,)).tolist(), EOS] for length in lengths]
    name = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else "CPU"
    network = SteppingNetwork.of(model)
    for _ in range(2):  # the first time warms up
        begun, tokens = time.monotonic(), 0
        for batch in batches_by_length(lengths, decoding.batch_tokens):
            longest = lengths[batch[0]]
            padded = torch.tensor([sources[index] + [PAD] * (longest - lengths[index]) for index in batch])
            with autocast(chosen, precision):
                found = beam_search(network, padded.to(chosen), decoding)
            tokens += sum(len(hypotheses[0].tokens) + 1 for hypotheses in found)
        seconds = time.monotonic() - begun
    return Decoded(sentences, decoding.beam, tokens, seconds, name, str(precision).removeprefix("torch."))


if __name__ == "__main__":
    main()
