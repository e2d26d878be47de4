"""Exports for CTranslate2 and the engine that uses them: the same translations as our own search finds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_inputs import CHECKOUT
from tiny_model import TINY_DECODING, sentence, write_uneven_model

from transformer.cli import main
from transformer.decoding.engine import load_translator
from transformer.decoding.scoring import score_tokens
from transformer.decoding.translation import Options
from transformer.errors import DataError, ParamsError
from transformer.export.export import check_formats, export, export_all
from transformer.export.origin import ORIGIN_FILE, read_origin
from transformer.files import files_below, sha256_of
from transformer.params import DecodingParams, ExportParams

pytest.importorskip("ctranslate2")
LINES = [sentence(seed, 1 + seed % 9) for seed in range(40)] + ["", sentence(41, 40)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_uneven_model(tmp_path_factory.mktemp("pre") / "model")


@pytest.fixture(scope="module")
def exported(model: Path) -> Path:
    export(model, "ctranslate2", model.with_name("model-ctranslate2"))
    return model.with_name("model-ctranslate2")


def settings(**changed: object) -> DecodingParams:
    return TINY_DECODING.model_copy(update={"precision": "fp32", "batch_tokens": 200, **changed})


@pytest.mark.parametrize("params", [{}, {"norm": "post"}, {"norm": "post", "positions": "learned"}])
@pytest.mark.parametrize("search", [{}, {"max_extra_length": 4, "alpha": 0.3}, {"beam": 1, "alpha": 0.0}])
def test_it_translates_as_our_own_search(params: dict[str, str], search: dict[str, float], tmp_path: Path) -> None:
    """Most of these sentences reach the greatest length, where the end of sentence is forced."""
    model = write_uneven_model(tmp_path / "model", **params)
    export(model, "ctranslate2", tmp_path / "exported")
    ours = load_translator(model, "torch", "cpu", settings(**search)).translate_nbest(LINES, 1)
    theirs = load_translator(tmp_path / "exported", "ctranslate2", "cpu", settings(**search)).translate_nbest(
        LINES, 1
    )
    for (mine,), (other,) in zip(ours, theirs, strict=True):
        assert (mine.text, mine.length, mine.cut) == (other.text, other.length, other.cut)
        assert other.score == pytest.approx(mine.score, abs=1e-3)
        assert other.log_prob == pytest.approx(mine.log_prob, abs=1e-2)
    assert len({one[0].text for one in ours}) > 8


def test_what_our_search_never_emits_is_not_emitted(tmp_path: Path) -> None:
    model = write_uneven_model(tmp_path / "model", emitted=True)
    export(model, "ctranslate2", tmp_path / "exported")
    ours = load_translator(model, "torch", "cpu", settings())
    theirs = load_translator(tmp_path / "exported", "ctranslate2", "cpu", settings())
    for line in LINES[:10]:
        (found,) = theirs.translate_nbest([line])[0]
        (hypotheses,) = theirs._searched(theirs._sentences([line], [""], Options(), 1), [32], 1)
        tokens = max(hypotheses, key=lambda one: one.score).tokens
        source = [*ours.vocabulary.encode(line), 3]
        assert not {0, 1, 2} & set(tokens)
        (scored,) = score_tokens([ours.model], [source], [tokens], aligned=False)
        assert found.log_prob == pytest.approx(sum(scored.log_probs), abs=1e-2)


def test_nbest_is_in_our_order_and_empty_lines_stay_empty(model: Path, exported: Path) -> None:
    ours = load_translator(model, "torch", "cpu", settings()).translate_nbest(LINES[:20], 4)
    theirs = load_translator(exported, "ctranslate2", "cpu", settings()).translate_nbest(LINES[:20], 4)
    same = sum(
        [one.text for one in mine] == [one.text for one in other] for mine, other in zip(ours, theirs, strict=True)
    )
    assert same >= 17  # where more hypotheses finish in the last step than the beam is wide, the engine may lose one
    assert load_translator(exported, "ctranslate2").translate(["", LINES[0], " "])[::2] == ["", ""]


def test_split_lines_and_the_export_beside_the_model(model: Path, exported: Path) -> None:
    long = ". ".join(sentence(seed, 6) for seed in range(8))
    split = Options(long_lines="split")
    (ours,) = load_translator(model, "torch", "cpu", settings()).translate_nbest([long], options=split)
    (theirs,) = load_translator(model, "ctranslate2", "cpu", settings()).translate_nbest([long], options=split)
    assert ours[0].text == theirs[0].text
    assert len(theirs[0].sentences) > 1


def test_equal_models_have_equal_exports_that_say_where_they_come_from(
    model: Path, exported: Path, tmp_path: Path
) -> None:
    export(model, "ctranslate2", tmp_path / "again")
    assert sha256_of(tmp_path / "again") == sha256_of(exported)
    origin = read_origin(exported)
    assert origin.model == {file.name: sha256_of(file) for file in files_below(model)}
    assert origin.files == {file.name: sha256_of(file) for file in files_below(exported) if file.name != ORIGIN_FILE}
    assert {"model.bin", "config.json", "spm.model", "model_card.md", "decoding.json"} <= origin.files.keys()


@pytest.mark.parametrize("quantization", ["int8", "bfloat16"])
def test_smaller_weights_translate_too(model: Path, exported: Path, quantization: str, tmp_path: Path) -> None:
    export(model, "ctranslate2", tmp_path / "small", quantization)
    assert (tmp_path / "small" / "model.bin").stat().st_size < 0.8 * (exported / "model.bin").stat().st_size
    assert read_origin(tmp_path / "small").quantization == quantization
    assert all(load_translator(tmp_path / "small", "ctranslate2").translate(LINES[:3]))


def test_a_damaged_export_and_one_of_another_model_are_refused(model: Path, exported: Path, tmp_path: Path) -> None:
    export(model, "ctranslate2", tmp_path / "model-ctranslate2")
    other = write_uneven_model(tmp_path / "model", dropout=0.3)
    with pytest.raises(DataError, match="made from another model"):
        load_translator(other, "ctranslate2")
    (tmp_path / "model-ctranslate2" / "spm.model").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"spm\.model is damaged"):
        load_translator(tmp_path / "model-ctranslate2", "ctranslate2")
    with pytest.raises(DataError, match="transformer export"):
        load_translator(tmp_path / "none", "ctranslate2")
    with pytest.raises(DataError, match="is an export, no model folder"):
        load_translator(exported, "torch")


def test_what_is_there_and_no_export_is_left_alone(model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("kept")
    with pytest.raises(DataError, match="no earlier export"):
        export(model, "ctranslate2", tmp_path / "mine")
    assert [one.name for one in tmp_path.iterdir()] == ["mine"]
    export(model, "ctranslate2", tmp_path / "new")
    export(model, "ctranslate2", tmp_path / "new", "int8")
    assert read_origin(tmp_path / "new").quantization == "int8"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["mine", "new"]


def test_a_network_that_it_lacks_is_refused(tmp_path: Path) -> None:
    model = write_uneven_model(tmp_path / "model", key_size=4)
    with pytest.raises(ParamsError, match=r"model\.key_size is 4"):
        export(model, "ctranslate2", tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--protect", "all"], "protected text"),
        (["--sample"], "samples"),
        (["--prefix", "the"], "forced beginnings"),
        (["--json"], "tokens and alignment"),
        (["--precision", "fp32"], "--precision"),
        (["--model", "other"], "ensembles"),
        (["--device", "mps"], "device 'mps'"),
    ],
)
def test_options_that_it_lacks_are_refused(
    options: list[str], named: str, model: Path, exported: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = [str(model) if one == "other" else one for one in options]
    (tmp_path / "text").write_text(LINES[0] + "\n")
    command = ["translate", str(tmp_path / "text"), "--model", str(exported), "--engine", "ctranslate2", *options]
    assert main(command) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert named in told.err


def test_the_command_exports_beside_the_model(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = write_uneven_model(tmp_path / "model")
    assert main(["export", str(model), "--to", "ctranslate2"]) == 0
    assert capfd.readouterr().out == f"{model}-ctranslate2\n"
    (tmp_path / "text").write_text(LINES[0] + "\n")
    for engine in ("torch", "ctranslate2"):
        assert (
            main(["translate", str(tmp_path / "text"), "--model", str(model), "--engine", engine, "--nbest", "1"])
            == 0
        )
    first, second = capfd.readouterr().out.splitlines()
    assert first.rpartition("|||")[0] == second.rpartition("|||")[0]
    assert json.loads((Path(f"{model}-ctranslate2") / ORIGIN_FILE).read_text())["to"] == "ctranslate2"
    assert main(["export", f"{model}-ctranslate2", "--to", "ctranslate2"]) == 3
    assert "is an export itself" in capfd.readouterr().err


def test_it_translates_without_torch(model: Path, exported: Path) -> None:
    """Whose import is most of what a short command takes."""
    program = (
        "import sys\nfrom transformer.cli import main\n"
        f"status = main(['translate', '--engine', 'ctranslate2', '--model', {str(model)!r}, '--nbest', '2'])\n"
        "assert (status, 'torch' in sys.modules) == (0, False)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=LINES[0], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("1 ||| ")


def test_the_stage_exports_what_params_name(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_all(model, ExportParams(formats=[], quantization="float32"), tmp_path / "none")
    assert json.loads((tmp_path / "none" / "exports.json").read_text())["formats"] == {}
    both = ExportParams(formats=["huggingface", "ctranslate2"], quantization="int8")
    export_all(model, both, tmp_path / "export")
    listed = json.loads((tmp_path / "export" / "exports.json").read_text())
    assert listed["model"] == sha256_of(model)
    assert listed["formats"] == {to: sha256_of(tmp_path / "export" / to) for to in both.formats}
    assert {to: read_origin(tmp_path / "export" / to).quantization for to in both.formats} == {
        "huggingface": None,
        "ctranslate2": "int8",
    }
    monkeypatch.setattr("transformer.export.export.find_spec", lambda _: None)
    with pytest.raises(ParamsError, match="ctranslate2 is not installed"):
        check_formats(both)
