"""Our translator beside Hugging Face's generate and CTranslate2: the same weights, sentences and beam.

They take turns, so that what else the machine does falls on all alike; each round is a ratio.
"""

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch
from sacrebleu.metrics import BLEU

from transformer.data.cleaning import clean_text
from transformer.decoding.hypothesis import length_penalty
from transformer.decoding.translator import Translator

Translate = Callable[[list[str]], list[str]]
BATCH = 64  # sentences of a batch of Hugging Face's; ours and CTranslate2's have their own
BUSY = "while True: pass"


@dataclass
class Engine:
    """One that translates, and what it took each time."""

    name: str
    translate: Translate
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    found: list[str] = field(default_factory=list)


def compare(model: Path, test: Path, folders: dict[str, Path], rounds: int, busy: int) -> None:
    """Translate the test set's sources `rounds` times with each engine, `busy` processes beside it; print a table."""
    threads, sentences = torch.get_num_threads(), pd.read_parquet(test)
    source, references = list(sentences.source), list(sentences.target)
    translator = Translator.load(model, "cpu")
    engines = [Engine("ours", translator.translate)]
    for name, build in (("Hugging Face generate", _hugging_face), ("CTranslate2", _ctranslate2)):
        if name not in folders:
            continue
        try:
            engines.append(Engine(name, build(folders[name], translator)))
        except ModuleNotFoundError as error:
            print(f"{name}: left out, {error.name} is not installed")
    for engine in engines:
        engine.found = engine.translate(source)  # warms up
    with _beside(busy):
        for _ in range(rounds):
            for engine in engines:
                torch.set_num_threads(threads)  # CTranslate2 sets its own
                _measure(engine, source)
    ours = engines[0]
    print(f"{len(source)} sentences, beam {translator.decoding.beam}, fp32, {threads} threads, "
          f"{busy} busy processes beside, median of {rounds} rounds")  # fmt: skip
    print("| engine | sentences/s | CPU seconds | ours is faster by | BLEU | as ours |\n|---|---|---|---|---|---|")
    for engine in engines:
        ratios = [theirs / mine for theirs, mine in zip(engine.seconds, ours.seconds, strict=True)]
        same = sum(a == b for a, b in zip(engine.found, ours.found, strict=True))
        bleu = BLEU().corpus_score(engine.found, [references]).score
        print(f"| {engine.name} | {len(source) / median(engine.seconds):.0f} | {median(engine.cpu_seconds):.2f} | "
              f"{median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f}) | {bleu:.2f} | {same} |")  # fmt: skip


def _measure(engine: Engine, source: list[str]) -> None:
    used, begun = _cpu_seconds(), time.perf_counter()
    engine.translate(source)
    engine.seconds.append(time.perf_counter() - begun)
    engine.cpu_seconds.append(_cpu_seconds() - used)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@contextmanager
def _beside(count: int) -> Iterator[None]:
    """So many processes that always compute."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for one in others:
            one.kill()
            one.wait()


def _hugging_face(folder: Path, translator: Translator) -> Translate:
    """Batches of like length; our greatest length, early stopping as in our search, its own length penalty."""
    from transformers import AutoModelForSeq2SeqLM

    network: Any = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    decoding, vocabulary = translator.decoding, translator.vocabulary

    def translate(lines: list[str]) -> list[str]:
        encoded = [[*ids, 3] for ids in vocabulary.encode_batch(list(map(clean_text, lines)))]
        order = sorted(range(len(lines)), key=lambda index: -len(encoded[index]))
        found = [""] * len(lines)
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            longest = max(len(encoded[index]) for index in batch)
            ids = torch.tensor([encoded[index] + [0] * (longest - len(encoded[index])) for index in batch])
            most = min(longest + decoding.max_extra_length, translator.model.params.max_positions)
            with torch.inference_mode():
                output = network.generate(input_ids=ids, attention_mask=ids.ne(0).long(), num_beams=decoding.beam,
                                          max_length=most + 1)  # fmt: skip
            for index, tokens in zip(batch, output.tolist(), strict=True):
                found[index] = " ".join(vocabulary.decode([token for token in tokens if token > 3]).split())
        return found

    return translate


def _ctranslate2(folder: Path, translator: Translator) -> Translate:
    """A thread a batch, as ours; of the hypotheses it finishes the best by our length penalty."""
    import ctranslate2

    decoding, vocabulary = translator.decoding, translator.vocabulary
    engine = ctranslate2.Translator(
        str(folder), "cpu", compute_type="float32", inter_threads=torch.get_num_threads(), intra_threads=1
    )

    def score(log_prob_a_token: float, pieces: list[str]) -> float:
        length = float(len(pieces) + 1)
        return log_prob_a_token * length / float(length_penalty(length, decoding.alpha))

    def translate(lines: list[str]) -> list[str]:
        pieces = list(map(vocabulary.pieces, vocabulary.encode_batch(list(map(clean_text, lines)))))
        output = engine.translate_batch(
            pieces, beam_size=decoding.beam, num_hypotheses=decoding.beam, length_penalty=1, return_scores=True,
            max_batch_size=decoding.batch_tokens // 2, batch_type="tokens", max_decoding_length=256, disable_unk=True,
        )  # fmt: skip
        found = []
        for one in output:
            best = max(zip(one.scores, one.hypotheses, strict=True), key=lambda each: score(*each))[1]
            found.append(" ".join(vocabulary._processor.decode_pieces(best).split()))
        return found

    return translate
