"""Exports for ONNX: onnxruntime computes our logits, and the program of docs/exports.md translates greedily."""

from pathlib import Path
from typing import Any

import pytest
import torch
from documented import blocks
from tiny_model import TINY_DECODING, sentence, write_uneven_model

from transformer.cli import main
from transformer.decoding.engine import load_translator
from transformer.errors import ParamsError
from transformer.export.export import check_formats, export
from transformer.export.origin import ORIGIN_FILE, check_export
from transformer.files import files_below, sha256_of
from transformer.model.folder import load_model
from transformer.params import ExportParams

for package in ("onnx", "onnxscript"):
    pytest.importorskip(package)
onnxruntime = pytest.importorskip("onnxruntime")
LINES = [sentence(seed, 1 + seed % 9) for seed in range(24)] + [sentence(1, 60), "zebra ünïcode ✓"]
KINDS = [{"norm": "post"}, {"norm": "post", "positions": "learned"}, {"key_size": 4, "decoder_layers": 1}]
GREEDY = TINY_DECODING.model_copy(update={"beam": 1, "alpha": 0.0, "precision": "fp32"})


@pytest.fixture(scope="module", params=[{}, *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS)], ids=str)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With an export beside it."""
    folder = write_uneven_model(tmp_path_factory.mktemp("onnx") / "averaged", **request.param)
    export(folder, "onnx", folder.with_name("averaged-onnx"))
    return folder


def sessions(model: Path) -> tuple[Any, Any]:
    folder = model.with_name("averaged-onnx")
    encoder, step = (onnxruntime.InferenceSession(folder / f"{name}.onnx") for name in ("encoder", "decoder_step"))
    return encoder, step


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (6, 9)], ids=str)
def test_its_logits_are_ours(model: Path, shape: tuple[int, int]) -> None:
    """Ours by one pass over whole targets, without steps and without a past."""
    network = load_model(model, torch.device("cpu")).model
    rows, length = shape
    draw = torch.Generator().manual_seed(rows * length)
    source = torch.randint(4, 300, shape, generator=draw)
    source[:, -1] = 3
    for row in range(1, rows):  # each row has another length
        source[row, length - row % length :] = 0
        source[row, max(0, length - row % length - 1)] = 3
    target = torch.randint(4, 300, (rows, 6), generator=draw)
    target[:, 0] = 2
    with torch.inference_mode():
        ours = network(source, target)
    encoder, step = sessions(model)
    (memory,) = encoder.run(None, {"source": source.numpy()})
    past = memory[..., :0, :]
    assert ours.std() > 1
    for place in range(target.size(1)):
        inputs = {"token": target[:, place].numpy(), "past": past, "memory": memory, "source": source.numpy()}
        logits, past = step.run(None, inputs)
        # Rounding of weights far larger than trained ones; those of the default preset differ by less than 1e-4.
        torch.testing.assert_close(torch.from_numpy(logits), ours[:, place], rtol=0, atol=float(1e-4 * ours.std()))
    assert past.shape[3] == target.size(1)


def test_the_documented_program_translates_greedily_as_we_do(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = blocks("docs/exports.md", "## ONNX", "python")
    assert len([line for line in program.splitlines() if line]) <= 25
    (model.parent / "models").mkdir(exist_ok=True)
    (model.parent / "models" / "averaged-onnx").symlink_to(model.with_name("averaged-onnx"))
    monkeypatch.chdir(model.parent)
    names: dict[str, Any] = {}
    exec(compile(program, "docs/exports.md", "exec"), names)
    ours = load_translator(model, "torch", "cpu", GREEDY)
    shown = ours.translate(["Turn on the light.", "The password is wrong."])
    assert capsys.readouterr().out == f"{shown}\n"
    assert names["translate"](LINES) == ours.translate(LINES)
    assert len(set(names["translate"](LINES))) > 8


@pytest.mark.slow
def test_equal_models_have_equal_exports_that_say_where_they_come_from_and_nothing_of_this_machine(
    model: Path, tmp_path: Path
) -> None:
    exported = model.with_name("averaged-onnx")
    export(model, "onnx", tmp_path / "again")
    assert sha256_of(tmp_path / "again") == sha256_of(exported)
    origin = check_export(exported)
    assert origin.model == {file.name: sha256_of(file) for file in files_below(model)}
    assert set(origin.files) == {
        "encoder.onnx", "decoder_step.onnx", "spm.model", "decoding.json", "model_card.md"
    }  # fmt: skip
    import onnx

    for name in ("encoder.onnx", "decoder_step.onnx"):
        onnx.checker.check_model(exported / name, full_check=True)
        content = (exported / name).read_bytes()
        assert not [word for word in (b".py", b"site-packages", str(Path.cwd()).encode()) if word in content]


def test_a_missing_package_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_uneven_model(tmp_path / "model")
    monkeypatch.setattr("transformer.export.onnx.find_spec", lambda name: None if name == "onnxscript" else name)
    told = "onnxscript is not installed: pip install 'attention-pipeline[onnx]', or onnxscript itself"
    assert main(["export", str(model), "--to", "onnx"]) == 2
    assert capsys.readouterr().err == f"transformer: {told}\n"
    with pytest.raises(ParamsError, match="onnxscript is not installed"):
        check_formats(ExportParams(formats=["onnx"], quantization="float32"))
    assert main(["export", str(model), "--to", "onnx", "--quantization", "int8"]) == 2
    assert "onnx has float32 weights" in capsys.readouterr().err
    assert not (tmp_path / "model-onnx" / ORIGIN_FILE).exists()
