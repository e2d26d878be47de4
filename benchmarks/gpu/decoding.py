"""Part 5: beam search, its time with random weights and its translations with trained ones."""

import time
from dataclasses import asdict
from typing import Any

import torch

from benchmarks.decoding import NEWSTEST_SENTENCES, decode_random
from benchmarks.gpu.parts import Result, Row
from benchmarks.gpu.setting import DEFAULT_PRESET, DEVICE, REHEARSAL, SIZES, TestText, bundled, preset
from transformer.decoding.translator import Translator
from transformer.evaluation.scores import bleu_and_chrf
from transformer.params import read_decoding

SENTENCES = 12 if REHEARSAL else NEWSTEST_SENTENCES
AIM_SECONDS = 20
AIM_BLEU = 0.1  # the difference that rounding may make


def measure(result: Result) -> None:
    """As many sentences as newstest2014 has; then the default preset's test set, beside the CPU's translations."""
    random = decode_random(preset(SIZES["base"]), SENTENCES, device=DEVICE)
    told = f"{random.seconds:.1f} s, {random.tokens / random.seconds:,.0f} tokens/s"
    rows = [Row(f"{SENTENCES:,} sentences of newstest's lengths, base, beam {random.beam}", told,
                f"< {AIM_SECONDS} s", random.seconds < AIM_SECONDS)]  # fmt: skip
    result.record(rows=rows, random=asdict(random))

    text = TestText.read(bundled(DEFAULT_PRESET, "test.jsonl"), SENTENCES if REHEARSAL else None)
    trained = {}
    for precision in ("fp32", "bf16"):
        trained[precision] = _translated(text, precision)
        rows.append(_row(precision, trained[precision]))
        result.record(rows=rows, trained=trained)


def _translated(text: TestText, precision: str) -> dict[str, Any]:
    """The default preset's test set translated by its model, beside the CPU's translations."""
    model, language = bundled(DEFAULT_PRESET, "model"), preset(DEFAULT_PRESET).languages.target
    translator = Translator.load(model, DEVICE, read_decoding(model).model_copy(update={"precision": precision}))
    seconds = list[float]()
    for _ in range(2):  # once to warm up
        begun = time.monotonic()
        found = translator.translate(text.sources)
        seconds.append(time.monotonic() - begun)
    ours, cpus = (bleu_and_chrf(texts, text.references, language)[0] for texts in (found, text.hypotheses))
    same = sum(one == other for one, other in zip(found, text.hypotheses, strict=True))
    return {"sentences": len(found), "seconds": seconds, "bleu": ours, "cpu_bleu": cpus, "same": same,
            "torch": torch.__version__}  # fmt: skip


def _row(precision: str, found: dict[str, Any]) -> Row:
    return Row(
        f"BLEU of {DEFAULT_PRESET}'s {found['sentences']} test sentences in {precision}, here and on the CPU",
        f"{found['bleu']:.2f}, {found['cpu_bleu']:.2f}; {found['same']} translations the same; "
        f"{found['seconds'][-1]:.1f} s",
        f"within {AIM_BLEU}",
        abs(found["bleu"] - found["cpu_bleu"]) <= AIM_BLEU,
    )
