"""A corpus that grows by a fifth: from scratch, and from the model of its old part in a quarter of the updates.

    python -m benchmarks.warm_start --raw data/raw --scratch models/averaged

The wheel of the default preset is split by component, in the order of the hashes of their names: the old part holds
four fifths of the text. What is made is kept in FOLDER, and a step whose result is there is not done again; all of it
takes two trainings of the default preset. `--scratch` names a model of the default preset instead of training one.
"""

import argparse
import hashlib
import logging
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet as pq
from sacrebleu.metrics import CHRF

from transformer.averaging.average import average
from transformer.bleu import bleu_metric
from transformer.chunks import LocalExecutor
from transformer.data.parts import PARTS_FILE
from transformer.data.prepare.prepare import prepare
from transformer.data.tokenize.tokenize import tokenize
from transformer.decoding.translator import Translator
from transformer.evaluation.scores import paired_bootstrap
from transformer.files import write_json
from transformer.params import Params, load_params
from transformer.parent_folder import DESCRIPTION_FILE, MODEL_FOLDER, given_vocabulary
from transformer.training.train import train

PRESET = Path(__file__).parents[1] / "presets" / "interface-strings.yaml"
OLD_SHARE = 0.82  # of the catalogues' bytes; what is in several components makes the union 1.2 times the old part
SHARE_OF_UPDATES = 4
WARM_UP, RATE = 100, 0.3  # of the warm start; the peak is six fifths of that of the default preset
SAMPLES = 1000


def main() -> None:
    """Make the three models, translate, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--raw", type=Path, default=Path("data/raw"), help="what `dvc repro download` has fetched")
    parser.add_argument("--scratch", type=Path, help="a model of the default preset; default: it is trained")
    parser.add_argument("--folder", type=Path, default=Path("work/warm_start"))
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    params, folder = load_params(PRESET), options.folder
    old, union = folder / "old", folder / "union"
    once(old / "raw", lambda: write_old_wheel(options.raw, old / "raw"))
    for part, raw in ((old, old / "raw"), (union, options.raw)):
        once(part / "corpus", lambda part=part, raw=raw: prepared(params, raw, part))
    once(old / "restricted", lambda: restrict(old / "corpus", union / "corpus", old / "restricted"))
    once(old / "averaged", lambda: trained(params, old, None))
    parent = folder / "parent"
    once(parent, lambda: write_parent(old / "averaged", parent))
    if options.scratch is None:
        once(union / "averaged", lambda: trained(params, union, None))
    warm = folder / "warm"
    once(warm / "corpus", lambda: shutil.copytree(union / "corpus", warm / "corpus"))
    once(warm / "averaged", lambda: trained(warm_params(params), warm, parent))
    scratch = options.scratch or union / "averaged"
    report({"old part": old / "averaged", "from scratch": scratch, "warm start": warm / "averaged"}, old, union)


def once(made: Path, make: Callable[[], object]) -> None:
    """Make what is not there yet."""
    if not made.exists():
        make()


def component(member: str) -> str | None:
    """The component that a member of the wheel holds the English or German catalogue of."""
    match = re.fullmatch(r".*/([^/]+)/translations/(en|de)\.json", member)
    return match[1] if match else None


def write_old_wheel(raw: Path, target: Path) -> None:
    """A raw folder whose wheel has only the catalogues of the old components."""
    (source,) = raw.rglob("*.whl")
    with zipfile.ZipFile(source) as wheel:
        sizes: dict[str, int] = {}
        for member in wheel.namelist():
            if member.endswith("/translations/en.json") and (name := component(member)):
                sizes[name] = sizes.get(name, 0) + wheel.getinfo(member).file_size
        kept, bytes_kept = set[str](), 0
        for name in sorted(sizes, key=lambda name: hashlib.sha256(name.encode()).hexdigest()):
            if bytes_kept < OLD_SHARE * sum(sizes.values()):
                kept.add(name)
                bytes_kept += sizes[name]
        written = target / source.relative_to(raw)
        written.parent.mkdir(parents=True)
        with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as smaller:
            for member in wheel.namelist():
                if component(member) in kept:
                    smaller.writestr(member, wheel.read(member))
    shutil.copy(raw / PARTS_FILE, target / PARTS_FILE)
    print(f"{len(kept)} of {len(sizes)} components are old")


def prepared(params: Params, raw: Path, part: Path) -> None:
    """The prepare stage."""
    with LocalExecutor() as executor:
        prepare(params.preparation, raw, part / "corpus", part / "corpus.json", part / "work", executor)


def restrict(old: Path, union: Path, note: Path) -> None:
    """Leave old training pairs out that resemble a held-out one of the union: no model shall have seen those."""
    ours, all_of_them = (pq.read_table(corpus / "train.parquet") for corpus in (old, union))
    known = set(pairs_of(all_of_them))
    kept = ours.filter(pyarrow.array([pair in known for pair in pairs_of(ours)]))
    pq.write_table(kept, old / "train.parquet")
    write_json(note, {"old": kept.num_rows, "union": all_of_them.num_rows})


def pairs_of(table: pyarrow.Table) -> list[tuple[str, str]]:
    """Source and target of each row."""
    return list(zip(table.column("source").to_pylist(), table.column("target").to_pylist(), strict=True))


def write_parent(model: Path, parent: Path) -> None:
    """What the stage `parent` would leave."""
    shutil.copytree(model, parent / MODEL_FOLDER)
    write_json(parent / DESCRIPTION_FILE, {"start_from": "old/averaged", "resolved": "old/averaged"})


def warm_params(params: Params) -> Params:
    """The default preset with a quarter of its updates, and a rate for weights that are no longer random."""
    changed = {
        "start_from": "old/averaged",
        "updates": params.training.updates // SHARE_OF_UPDATES // 100 * 100,
        "warmup_updates": WARM_UP,
        "learning_rate_scale": RATE,
    }
    return params.model_copy(update={"training": params.training.model_copy(update=changed)})


def trained(params: Params, part: Path, parent: Path | None) -> None:
    """The stages tokenize, train and average."""
    given = given_vocabulary(parent) if parent else None
    tokens, checkpoints = part / "tokens", part / "checkpoints"
    with LocalExecutor() as executor:
        tokenize(
            params.tokenization, part / "corpus", tokens, part / "tokens.json", part / "work", executor, given=given
        )
    train(
        params.languages, params.model, params.training, params.compute,
        tokens=tokens, work=part / "work" / "training", checkpoints=checkpoints, report=part / "training.json",
        curves=part / "curves", on_figures=lambda _: None, parent=parent,
    )  # fmt: skip
    average(params.averaging, params.decoding, checkpoints, tokens, part / "averaged")


def report(models: dict[str, Path], old: Path, union: Path) -> None:
    """BLEU and chrF2 of each model on all, the old and the new test lines, and the warm start against the others."""
    language = load_params(PRESET).languages.target
    test, old_test = (pairs_of(pq.read_table(part / "corpus" / "test.parquet")) for part in (union, old))
    known = set(old_test)
    parts = {"all": test, "old": old_test, "new": [pair for pair in test if pair not in known]}
    lines = sorted({source for pairs in parts.values() for source, _ in pairs})
    outputs = {}
    for name, folder in models.items():
        translations = Translator.load(folder, device="cpu", precision="fp32").translate(lines)
        outputs[name] = dict(zip(lines, translations, strict=True))
    metrics = {"BLEU": bleu_metric(language, None), "chrF2": CHRF()}
    print("test lines   model          BLEU   chrF2   p against the warm start (BLEU, chrF2)")
    for part, pairs in parts.items():
        references = [target for _, target in pairs]
        warm = [outputs["warm start"][source] for source, _ in pairs]
        for name in models:
            system = [outputs[name][source] for source, _ in pairs]
            found = paired_bootstrap(warm, system, references, metrics, SAMPLES)
            p = "" if name == "warm start" else "  ".join(f"{one.p_value:.3f}" for one in found.values())
            print(
                f"{part:4}{len(pairs):5}    {name:13}  {found['BLEU'].system:.2f}  {found['chrF2'].system:.2f}   {p}"
            )


if __name__ == "__main__":
    main()
