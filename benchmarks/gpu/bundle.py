"""What a bare machine needs for `benchmarks/gpu.sh`, put together where there is a network: `make gpu-bundle`.

    .gpu/wheels/                       packages that it lacks, for Python 3.12 on x86-64
    .gpu/interface-strings/tokens/     the default preset's
    .gpu/interface-strings/model/      its averaged model, where this checkout has the one of dvc.lock
    .gpu/interface-strings/test.jsonl  its test set with that model's translations, as `evaluate` wrote them
    .gpu/multi30k/tokens/  test.jsonl  where the corpus can be had

The lengths of newstest are in `benchmarks/newstest.py`. What cannot be had is named in a line and left out: the part
of the measurements that wants it says so on the day, the others run.
"""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.gpu.missing import BUNDLED
from benchmarks.gpu.setting import BUNDLE, CAPTIONS_PRESET, CHECKOUT, DEFAULT_PRESET
from benchmarks.presets import preset_params
from flows.checkout.workspace import LOCK, MODEL, TRANSLATIONS
from flows.records.hashes import hash_path
from flows.restore.outputs import locked_stages
from transformer.chunks import LocalExecutor
from transformer.data.download.download import download
from transformer.data.prepare.prepare import prepare
from transformer.data.tokenize.tokenize import tokenize
from transformer.errors import UserError
from transformer.evaluation.evaluate import read_test_sets
from transformer.files import files_below, sha256_of, write_text
from transformer.params import Params
from transformer.tokens.vocabulary import VOCABULARY_FILE

MOST_BYTES = 60 << 20
PYTHON = "3.12"
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 17, 12, 5)]
MODEL_FILES = ("config.json", "decoding.json", "model.safetensors", VOCABULARY_FILE)


def main() -> None:
    """Put the bundle together and print its size; the exit status is that of the first error that stops it."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        print(f"{BUNDLE.name}: {fill(BUNDLE) / (1 << 20):.1f} MiB, of {MOST_BYTES >> 20} at most")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def fill(bundle: Path) -> int:
    """Make the bundle, in place of a former one when it is whole; returns its bytes.

    Raises:
        UserError: the wheels or the default preset's data cannot be had, or it became too large.
    """
    new = bundle.with_name(f"{bundle.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    try:
        wheels(new / "wheels")
        preset_data(DEFAULT_PRESET, new / DEFAULT_PRESET)
        trained(CHECKOUT, new / DEFAULT_PRESET)
        try:
            preset_data(CAPTIONS_PRESET, new / CAPTIONS_PRESET)
        except UserError as error:
            shutil.rmtree(new / CAPTIONS_PRESET, ignore_errors=True)
            print(f"left out: {CAPTIONS_PRESET}: {error}")
        size = check_size(new)
        shutil.rmtree(bundle, ignore_errors=True)
        new.rename(bundle)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return size


def wheels(folder: Path, python: str = PYTHON) -> None:
    """The packages of BUNDLED and what they need, for that Python on x86-64, with this project's pins.

    Raises:
        UserError: pip could not get one.
    """
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    lock = (CHECKOUT / "constraints.txt").read_text(encoding="utf-8")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as pins:  # without hashes, as torch has none
        pins.write("\n".join(re.findall(r"^[\w.-]+==[^\s;\\]+", lock, re.MULTILINE)))
        pins.flush()
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder), "--only-binary=:all:",
                   "--python-version", python, "--implementation", "cp", *platforms,
                   "--constraint", pins.name, *BUNDLED.values()]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        told = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise UserError(f"wheels for Python {python} cannot be had: {(told or ['pip failed'])[0]}")


def preset_data(name: str, folder: Path) -> None:
    """A preset's tokens and first test set, by the pipeline's own stages; verified downloads are kept in work/.

    Raises:
        UserError: a source cannot be had, or is not what the registry says.
    """
    params, work = preset_params(name), CHECKOUT / "work"
    work.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work, prefix="gpu-bundle-") as temporary, LocalExecutor() as executor:
        made = Path(temporary)
        raw, corpus = made / "raw", made / "corpus"
        download(params.download, params.languages, CHECKOUT / "data" / "corpora.yaml", raw,
                 made / "manifest.json", work / "downloads")  # fmt: skip
        prepare(params.preparation, raw, corpus, made / "corpus.json", made / "prepare", executor)
        tokenize(params.tokenization, corpus, folder / "tokens", made / "tokens.json", made / "tokenize", executor)
        write_test_set(params, corpus, folder / "test.jsonl")


def write_test_set(params: Params, corpus: Path, path: Path) -> None:
    """The headline test set, a JSON object a line."""
    test = read_test_sets(corpus / "test.parquet", params.evaluation.test_sets)[0]
    pairs = zip(test.sources, test.references, strict=True)
    write_text(path, "".join(_line(source=source, reference=reference) for source, reference in pairs))


def trained(checkout: Path, folder: Path) -> None:
    """Add the trained model of dvc.lock and its translations of the test set, if they belong to the folder's tokens.

    Raises:
        DataError: dvc.lock is malformed.
    """
    model = checkout / MODEL
    found = checkout / TRANSLATIONS / f"{preset_params(DEFAULT_PRESET).evaluation.test_sets[0]}.jsonl"
    if absent := [path for path in (*(model / file for file in MODEL_FILES), found) if not path.exists()]:
        print(f"left out: the trained model: {os.path.relpath(absent[0])} is missing; `dvc checkout` brings it from "
              "DVC's cache, `make repro` makes it")  # fmt: skip
        return
    if other := not_of_the_lock(checkout):
        print(f"left out: the trained model: {other}")
        return
    if sha256_of(model / VOCABULARY_FILE) != sha256_of(folder / "tokens" / VOCABULARY_FILE):
        print(f"left out: the trained model: {os.path.relpath(model)} is not presets/{DEFAULT_PRESET}.yaml's")
        return
    rows = [json.loads(line) for line in found.read_text(encoding="utf-8").splitlines()]
    (folder / "model").mkdir()
    for file in MODEL_FILES:
        shutil.copyfile(model / file, folder / "model" / file)
    kept = ("source", "reference", "hypothesis")
    write_text(folder / "test.jsonl", "".join(_line(**{key: row[key] for key in kept}) for row in rows))


def not_of_the_lock(checkout: Path) -> str | None:
    """In words, why the model and its translations are not those of dvc.lock; None if they are.

    What the GPU computes is compared with them, and an older commit's would pass for these.
    """
    stages = locked_stages(checkout).values()
    locked = {path: md5 for stage in stages for path, md5 in stage.outputs.items()}
    for path in (MODEL, TRANSLATIONS):
        if path not in locked:
            return f"{LOCK} has no {path}; `make repro` makes it"
        if hash_path(checkout / path).md5 != locked[path]:
            return f"{path} is not that of {LOCK}; `dvc checkout {path}` brings that one back"
    evaluated = next(stage.inputs.get(MODEL) for stage in stages if TRANSLATIONS in stage.outputs)
    if evaluated != locked[MODEL]:
        return f"{TRANSLATIONS} is of another model than {MODEL}, by {LOCK}; `dvc repro` translates anew"
    return None


def _line(**values: str) -> str:
    return json.dumps(values, ensure_ascii=False) + "\n"


def check_size(folder: Path) -> int:
    """Bytes of all files.

    Raises:
        UserError: they are too many to travel.
    """
    sizes = {path: path.stat().st_size for path in files_below(folder)}
    if (total := sum(sizes.values())) >= MOST_BYTES:
        largest = max(sizes, key=lambda path: sizes[path])
        raise UserError(
            f"the bundle has {total / (1 << 20):.1f} MiB, more than {MOST_BYTES >> 20}: the largest file is "
            f"{largest.relative_to(folder)} with {sizes[largest] / (1 << 20):.1f} MiB"
        )
    return total


if __name__ == "__main__":
    main()
