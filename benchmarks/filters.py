"""What the filters of a preset take away from good translations, such as newstest's: the less the better.

`python -m benchmarks.filters newstest2013.en newstest2013.de` counts both directions of each two of the files, whose
suffixes are their languages; every pair goes through `prepare` as training text.
"""

import argparse
import json
import shutil
import tempfile
from itertools import permutations
from pathlib import Path
from typing import Any

from benchmarks.presets import add_preset, preset_params
from transformer.chunks import LocalExecutor
from transformer.data.parts import Part, write_parts
from transformer.data.prepare.prepare import prepare
from transformer.params import PreparationParams

SEPARATE = 0.002  # of the sources are held out, since a corpus without any can't be prepared


def removed(preparation: PreparationParams, source: Path, target: Path) -> tuple[int, dict[str, int]]:
    """How many pairs there are, and how many of them each filter removes."""
    languages = [path.suffix[1:] for path in (source, target)]
    with tempfile.TemporaryDirectory() as temporary, LocalExecutor() as executor:
        folder = Path(temporary)
        raw, corpus, report = folder / "raw", folder / "corpus", folder / "corpus.json"
        raw.mkdir()
        for path in (source, target):
            shutil.copy(path, raw / path.name)
        part = Part(
            corpus="text", name="text", split=None, format="lines", source=source.name, target=target.name,
            source_language=languages[0], target_language=languages[1],
        )  # fmt: skip
        write_parts(raw, [part])
        prepare(preparation, raw, corpus, report, folder / "work", executor)
        found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return found["pairs"]["read"], found["removed"]


def main() -> None:
    """Print a row for each direction."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="the same lines in two or more languages")
    add_preset(parser, "wmt14-en-de-base")
    options = parser.parse_args()
    for path in options.files:
        if not path.is_file():
            parser.error(f"there is no file {path}")
    preparation = preset_params(options.preset).preparation
    shares = {"valid_share": SEPARATE, "test_share": SEPARATE}
    print("| | pairs | removed | by |\n|---|---|---|---|")
    for source, target in permutations(options.files, 2):
        pairs, by = removed(preparation.model_copy(update=shares), source, target)
        reasons = ", ".join(f"{name} {count}" for name, count in by.items() if count)
        direction = f"{source.suffix[1:]}-{target.suffix[1:]}"
        print(f"| {direction} | {pairs} | {sum(by.values()) / pairs:.2%} | {reasons} |", flush=True)


if __name__ == "__main__":
    main()
