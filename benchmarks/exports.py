"""Do exports translate as the model does? `python -m benchmarks.exports`, in a checkout where the pipeline has run.

Exports models/averaged for CTranslate2 in each quantization and translates the headline test set, beside our own
search in float32: equal translations, greatest difference of scores, BLEU, size, sentences/s of wall and CPU time.
Then greedily, by our own search and by the program of docs/exports.md over ONNX, which gives no scores.
"""

import re
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

import pyarrow.parquet as pq
import sacrebleu

from flows.checkout.workspace import CORPUS, MODEL
from transformer.data.cleaning import clean_text
from transformer.decoding.engine import load_translator
from transformer.decoding.line_translator import LineTranslator
from transformer.decoding.translation import Translation
from transformer.export.export import export
from transformer.files import files_below
from transformer.params import Quantization, read_decoding


def main() -> None:
    """Print a table."""
    test, model = pq.read_table(Path(CORPUS) / "test.parquet").to_pydict(), Path(MODEL)
    settings = read_decoding(model).model_copy(update={"precision": "fp32"})
    print("| engine | equal translations | score differs by at most | BLEU | MB | sentences/s | per CPU second |")
    print("|---|---|---|---|---|---|---|")
    ours = _row("torch", load_translator(model, "torch", "cpu", settings), model, test, [])
    with tempfile.TemporaryDirectory() as folder:
        for quantization in get_args(Quantization):
            exported = Path(folder, quantization)
            export(model, "ctranslate2", exported, quantization)
            translator = load_translator(exported, "ctranslate2", "cpu", settings)
            _row(f"ctranslate2, {quantization}", translator, exported, test, ours)
        greedy = settings.model_copy(update={"beam": 1})
        ours = _row("torch, greedy", load_translator(model, "torch", "cpu", greedy), model, test, [])
        export(model, "onnx", Path(folder, "onnx"))
        _row("onnx, greedy", Documented(Path(folder, "onnx")), Path(folder, "onnx"), test, ours)


class Documented:
    """The program of docs/exports.md, 64 sentences of like length at a time."""

    def __init__(self, folder: Path) -> None:
        shown = Path("docs/exports.md").read_text(encoding="utf-8").partition("## ONNX")[2]
        program = re.search(r"```python\n(.*?)^print", shown, re.DOTALL | re.MULTILINE)
        assert program
        self._names: dict[str, Any] = {}
        exec(program[1].replace("models/averaged-onnx", str(folder)), self._names)  # noqa: S102

    def translate_nbest(self, lines: list[str]) -> list[list[Translation]]:
        """One translation of each line."""
        order = sorted(range(len(lines)), key=lambda place: len(self._names["spm"].encode(lines[place])))
        found: dict[int, str] = {}
        for first in range(0, len(order), 64):
            batch = order[first : first + 64]
            texts = self._names["translate"]([clean_text(lines[place]) for place in batch])
            found.update(zip(batch, texts, strict=True))
        return [[Translation(found[place], 0.0)] for place in range(len(lines))]


def _row(
    name: str,
    translator: "LineTranslator | Documented",
    folder: Path,
    test: dict[str, list[str]],
    ours: list[Translation],
) -> list[Translation]:
    translator.translate_nbest(test["source"][:8])
    wall, cpu = time.perf_counter(), time.process_time()
    found = [one[0] for one in translator.translate_nbest(test["source"])]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    pairs = list(zip(found, ours or found, strict=True))
    same = [(one, other) for one, other in pairs if one.text == other.text]
    differs = max(abs(one.score - other.score) for one, other in same) if found[0].score else float("nan")
    bleu = sacrebleu.corpus_bleu([one.text for one in found], [test["target"]]).score
    megabytes = sum(file.stat().st_size for file in files_below(folder)) / 1e6
    print(
        f"| {name} | {len(same)} of {len(found)} | {differs:.1g} | {bleu:.2f} | {megabytes:.1f} | "
        f"{len(found) / wall:.0f} | {len(found) / cpu:.0f} |",
        flush=True,
    )
    return found


if __name__ == "__main__":
    main()
