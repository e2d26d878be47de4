"""The bundle for the bare machine: what is in it, what is said of the rest; nothing else is imported there."""

import ast
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import pytest
from corpora import write_tokens
from distributions import closure
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tiny_inputs import CHECKOUT, TINY_PARAMS, copy_checkout, synthetic_pairs, write_tiny_inputs
from tiny_model import sentence, write_tiny_model

from benchmarks.gpu import bundle
from benchmarks.gpu.missing import BUNDLED, THERE
from benchmarks.gpu.parts import NAMES, result_file
from benchmarks.gpu.rehearsal import BARE_MACHINE, ENVIRONMENT, WANTED, bare_environment, python_of, rehearse
from benchmarks.gpu.setting import CAPTIONS_PRESET, DEFAULT_PRESET, TestText
from transformer.decoding.translator import Translator
from transformer.errors import UserError
from transformer.params import TokenizationParams
from transformer.tokens.store import TokenSplit
from transformer.tokens.vocabulary import VOCABULARY_FILE

SUPPORT = CHECKOUT / "tests" / "support"
MEASURED = ("decoding", "newstest", "operators", "torch_transformer", "training", "update_profile")
BARE = [line for line in BARE_MACHINE.read_text().splitlines() if not line.startswith("#")]


def importable() -> set[str]:
    """Top-level modules of the packages that the bare machine and the bundle have, and of what those need."""
    there = closure([*(Requirement(line).name for line in BARE), *BUNDLED.values()])
    return {
        module
        for module, distributions in packages_distributions().items()
        if {canonicalize_name(name) for name in distributions} & there
    }


def sources() -> Iterator[Path]:
    """All that may run there; serving, CTranslate2 and what makes the bundle may not."""
    library = CHECKOUT / "transformer"
    absent = {*(library / "serving").rglob("*.py"), *library.glob("*/ctranslate2.py")}
    yield from (path for path in library.rglob("*.py") if path not in absent)
    yield from (path for path in (CHECKOUT / "benchmarks" / "gpu").rglob("*.py") if path.stem != "bundle")
    yield from (CHECKOUT / "benchmarks" / f"{name}.py" for name in MEASURED)
    yield from (CHECKOUT / "tests" / "cuda").rglob("*.py")
    yield CHECKOUT / "tests" / "conftest.py"
    yield from (SUPPORT / f"{name}.py" for name in ("corpora", "on_device", "tiny_inputs", "tiny_model"))


def test_every_import_is_of_what_is_there() -> None:
    """Those inside functions too, which may run on the day only."""
    ours = {"transformer", "benchmarks", *(path.stem for path in SUPPORT.glob("*.py"))}
    allowed = sys.stdlib_module_names | importable() | ours | {"_typeshed"}  # of type checkers, never imported
    refused = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            refused |= {f"{path.name}: {name}" for name in names if name.split(".")[0] not in allowed}
    assert refused == set()


PROGRAM = """
import sys, importlib
from importlib.abc import MetaPathFinder
allowed = set(sys.argv[1].split(","))
third_party = set(sys.argv[2].split(","))
class Refuse(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in third_party - allowed:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
for part in sys.argv[3].split(","):
    importlib.import_module(f"benchmarks.gpu.{part}")
import benchmarks.gpu.__main__, benchmarks.gpu.part, pytest
sys.exit(pytest.main(["--collect-only", "-q", "-m", "cuda", "tests/cuda", "-p", "xdist", "-p", "pytest_timeout"]))
"""


def test_all_parts_import_where_nothing_else_is() -> None:
    """In a process that refuses every package which neither the bare machine nor the bundle has."""
    others = set(packages_distributions()) - {"transformer", "flows"}
    modules = ",".join(importable()), ",".join({*others, "flows"}), ",".join(NAMES)
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-c", PROGRAM, *modules]
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_packed_and_compiled_computes_what_padded_and_plain_does" in done.stdout


def test_what_is_asked_for_at_the_start_is_what_the_lists_hold() -> None:
    named = packages_distributions()
    asked = {canonicalize_name(name) for module in (*BUNDLED, *THERE) for name in named[module.split(".")[0]]}
    wanted = {canonicalize_name(Requirement(line).name) for line in [*BARE, *BUNDLED.values()]}
    assert wanted - asked <= {"nvidia-ml-py"}  # of the first part alone, on a GPU


TRANSLATED = Path("reports", "translations", "interface-strings.jsonl")


def lock(checkout: Path, **other: str) -> None:
    """Write a dvc.lock of what the checkout holds, by DVC's own rule for the hash of a folder; `other` instead."""

    def hashed(path: str) -> dict[str, str]:
        files = sorted(file.relative_to(checkout / path) for file in (checkout / path).rglob("*") if file.is_file())
        listing = [
            {"md5": hashlib.md5((checkout / path / file).read_bytes()).hexdigest(), "relpath": str(file)}
            for file in files
        ]
        return {"path": path, "md5": hashlib.md5(json.dumps(listing).encode()).hexdigest() + ".dir"}

    model, translations = hashed("models/averaged"), hashed("reports/translations")
    average = {"cmd": "average", "outs": [model | ({"md5": other["model"]} if "model" in other else {})]}
    evaluate = {"cmd": "evaluate", "deps": [model], "outs": [translations]}
    stages = {"average": average, "evaluate": evaluate}
    (checkout / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": stages}))


@pytest.fixture
def model_folders(tmp_path: Path) -> tuple[Path, Path]:
    """A checkout with a trained model, its translations and their dvc.lock; the preset's folder in the bundle."""
    checkout, folder = tmp_path / "checkout", tmp_path / "preset"
    model = checkout / "models" / "averaged"
    write_tiny_model(model)
    (folder / "tokens").mkdir(parents=True)
    (folder / "tokens" / VOCABULARY_FILE).write_bytes((model / VOCABULARY_FILE).read_bytes())
    (checkout / TRANSLATED.parent).mkdir(parents=True)
    row = {"source": "a", "reference": "b", "hypothesis": "c", "score": -0.5, "chrf": 1.0, "origin": "x"}
    (checkout / TRANSLATED).write_text(json.dumps(row) + "\n")
    lock(checkout)
    return checkout, folder


def test_a_trained_model_travels_with_its_translations(model_folders: tuple[Path, Path]) -> None:
    bundle.trained(*model_folders)
    folder = model_folders[1]
    assert Translator.load(folder / "model", "cpu").translate([""]) == [""]
    assert TestText.read(folder / "test.jsonl") == TestText(["a"], ["b"], ["c"])


def change(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"a", b"b", 1))


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (
            lambda checkout: change(checkout / TRANSLATED),
            "reports/translations is not that of dvc.lock; `dvc checkout reports/translations` brings that one back",
        ),
        (
            lambda checkout: change(checkout / "models" / "averaged" / "model.safetensors"),
            "models/averaged is not that of dvc.lock; `dvc checkout models/averaged` brings that one back",
        ),
        (
            lambda checkout: (checkout / "models" / "averaged" / "extra").touch(),
            "models/averaged is not that of dvc.lock; `dvc checkout models/averaged` brings that one back",
        ),
        (
            lambda checkout: lock(checkout, model="0" * 32 + ".dir"),
            "models/averaged is not that of dvc.lock; `dvc checkout models/averaged` brings that one back",
        ),
        (lambda checkout: (checkout / "dvc.lock").unlink(), "dvc.lock has no models/averaged; `make repro` makes it"),
    ],
)
def test_a_model_that_is_not_of_the_lock_is_left_out(
    model_folders: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    line: str,
) -> None:
    checkout, folder = model_folders
    spoil(checkout)
    bundle.trained(checkout, folder)
    assert capsys.readouterr().out == f"left out: the trained model: {line}\n"
    assert [path.name for path in folder.iterdir()] == ["tokens"]


def test_translations_of_the_model_before_are_left_out(
    model_folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that ended between averaging and evaluation."""
    checkout, folder = model_folders
    content = json.loads((checkout / "dvc.lock").read_text())
    content["stages"]["evaluate"]["deps"][0]["md5"] = "0" * 32 + ".dir"
    (checkout / "dvc.lock").write_text(json.dumps(content))
    bundle.trained(checkout, folder)
    assert "reports/translations is of another model than models/averaged, by dvc.lock" in capsys.readouterr().out
    assert not (folder / "model").exists()


def test_a_model_of_other_tokens_is_left_out(
    model_folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    checkout, folder = model_folders
    (folder / "tokens" / VOCABULARY_FILE).write_bytes(b"other")
    bundle.trained(checkout, folder)
    assert capsys.readouterr().out.endswith("averaged is not presets/interface-strings.yaml's\n")
    assert not (folder / "model").exists()
    bundle.trained(checkout / "elsewhere", folder)
    assert capsys.readouterr().out.endswith(
        "config.json is missing; `dvc checkout` brings it from DVC's cache, `make repro` makes it\n"
    )


def test_a_presets_data_come_from_the_pipelines_own_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    write_tiny_inputs(tmp_path)
    monkeypatch.setattr("benchmarks.presets.PRESETS", tmp_path)
    monkeypatch.setattr(bundle, "CHECKOUT", tmp_path)
    monkeypatch.chdir(tmp_path)
    bundle.preset_data("params", tmp_path / "made")
    assert len(TokenSplit.open(tmp_path / "made" / "tokens", "train")) > 300
    text = TestText.read(tmp_path / "made" / "test.jsonl")
    assert len(text.sources) == 30
    assert set(text.hypotheses) == {""}


def test_a_bundle_that_cannot_be_made_leaves_the_former_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    former = tmp_path / ".gpu"
    former.mkdir()
    (former / "kept").touch()
    with pytest.raises(UserError, match=r"^wheels for Python 3\.12 cannot be had: ERROR: .*"):
        bundle.fill(former)
    assert [path.name for path in tmp_path.iterdir()] == [".gpu"]
    assert (former / "kept").exists()


def test_too_large_a_bundle_names_its_largest_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "wheels", lambda folder: None)
    monkeypatch.setattr(bundle, "trained", lambda *folders: None)

    def data(name: str, folder: Path) -> None:
        if name == CAPTIONS_PRESET:
            raise UserError("no network")
        folder.mkdir(parents=True)
        np.save(folder / "large.npy", np.zeros(3 << 20, np.uint8))
        np.save(folder / "small.npy", np.zeros(1 << 20, np.uint8))

    monkeypatch.setattr(bundle, "preset_data", data)
    assert 4 << 20 < bundle.fill(tmp_path / ".gpu") < 5 << 20
    monkeypatch.setattr(bundle, "MOST_BYTES", 4 << 20)
    with pytest.raises(
        UserError, match=r"4\.0 MiB, more than 4: the largest .* interface-strings/large\.npy with 3\.0"
    ):
        bundle.fill(tmp_path / ".gpu")


def tiny_bundle(folder: Path, python: str) -> None:
    """Real wheels; tokens of synthetic pairs, and a model that has learned nothing."""
    bundle.wheels(folder / "wheels", python)
    pairs = synthetic_pairs(2800)
    splits = {"train": pairs[:2700], "valid": pairs[2700:2750], "test": pairs[2750:]}
    vocabulary = TokenizationParams(**TINY_PARAMS["tokenization"])
    for name in DEFAULT_PRESET, CAPTIONS_PRESET:
        write_tokens(folder / name, splits, vocabulary)
    write_tiny_model(folder / DEFAULT_PRESET / "model")
    lines = [sentence(seed, 5) for seed in range(20)]
    found = Translator.load(folder / DEFAULT_PRESET / "model", "cpu").translate(lines)
    rows = [{"source": line, "reference": line, "hypothesis": text} for line, text in zip(lines, found, strict=True)]
    for name in DEFAULT_PRESET, CAPTIONS_PRESET:
        (folder / name / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_rehearsal_on_a_bare_machine(tmp_path: Path) -> None:
    """Python 3.12 with torch 2.11.0 and what else is there; where no 3.12 is, this Python in its place."""
    try:
        version, python = WANTED, python_of(WANTED)
    except UserError:
        version, python = "{}.{}".format(*sys.version_info[:2]), Path(sys.executable)
    bare, checkout, out = (
        bare_environment(ENVIRONMENT, python),
        copy_checkout(tmp_path / "checkout"),
        tmp_path / "out",
    )
    tiny_bundle(checkout / ".gpu", version)
    status = rehearse(bare, checkout, out).returncode
    found = {name: json.loads(result_file(out, name).read_text()) for name in NAMES}
    assert {name: (one["status"], one["error"]) for name, one in found.items()} == dict.fromkeys(
        NAMES, ("done", None)
    )
    assert status == 0
    figures = {name: one["figures"] for name, one in found.items()}
    assert figures["machine"]["torch"].split("+")[0] == "2.11.0"
    assert figures["correctness"]["passed"] > 20
    reasons = {test["why"] for test in figures["correctness"]["tests"] if test["outcome"] == "skipped"}
    assert all("a CPU has no allocator" in str(reason) for reason in reasons)
    assert {size: len(rows) for size, rows in figures["training"]["measured"].items()} == {"base": 2, "big": 2}
    assert figures["training"]["absent"] == {}
    for size in "base", "big":
        assert figures["training"]["profiles"][size]["breakdown"]["products"] > 0
        assert len(figures["training"]["profiles"][size]["costliest"]) == 25
    assert figures["decoding"]["trained"]["fp32"]["same"] > 0
    assert len(figures["multi30k"]["curve"]) == 2
    assert len(list(out.iterdir())) == 8
