"""`transformer translate` as a user runs it: from another folder, with a model folder alone."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_model import TINY_DECODING, sentence, write_tiny_model

from transformer.cli import main
from transformer.decoding.translator import Translator
from transformer.files import write_json

CHECKOUT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
Command = Callable[..., subprocess.CompletedProcess[bytes]]
COMMAND = [sys.executable, "-m", "transformer", "translate"]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds nothing but models/averaged."""
    folder = tmp_path_factory.mktemp("elsewhere")
    write_tiny_model(folder / "models" / "averaged")
    return folder


def run(folder: Path, *options: str, text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own."""
    return subprocess.run(
        [*COMMAND, *options], input=text, cwd=folder, env=ENVIRONMENT, capture_output=True, timeout=60
    )


@pytest.fixture
def called(elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Command:
    """The command in this process, which has loaded torch already."""
    monkeypatch.chdir(elsewhere)

    def call(*options: str, text: bytes) -> subprocess.CompletedProcess[bytes]:
        (elsewhere / "stdin").write_bytes(text)
        with (elsewhere / "stdin").open() as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            status = main(["translate", *options])
        return subprocess.CompletedProcess(options, status, *capsysbinary.readouterr())

    return call


def wrong(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """The message of a command that fails with one line."""
    assert main(["translate", *options]) in (2, 3)
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    return output.err


def test_stdin_and_file_give_one_line_each(elsewhere: Path) -> None:
    lines = [sentence(1, 4), "", "Tür & Straße", sentence(2, 2)]
    text = "".join(f"{line}\n" for line in lines).encode()
    expected = Translator.load(elsewhere / "models" / "averaged", "auto").translate(lines)
    piped = run(elsewhere, text=text)
    assert (piped.returncode, piped.stderr) == (0, b"")
    assert piped.stdout.decode() == "".join(f"{line}\n" for line in expected)

    (elsewhere / "input.txt").write_bytes(text.removesuffix(b"\n"))
    moved = shutil.copytree(elsewhere / "models" / "averaged", elsewhere / "copy")
    from_file = run(elsewhere, "input.txt", "--model", str(moved), "--batch-tokens", "5000", "--device", "auto")
    assert from_file.stdout == piped.stdout


def test_entities_are_resolved_once(elsewhere: Path, called: Command) -> None:
    plain = called(text=f"{sentence(1, 3)} & &lt; x\n".encode())
    assert called(text=f"{sentence(1, 3)} &amp; &amp;lt; x\n".encode()).stdout != plain.stdout != b""
    lines = [f"{sentence(1, 3)} & &lt; x"]
    expected = Translator.load(elsewhere / "models" / "averaged", "auto").translate(lines)
    assert called(text=f"{sentence(1, 3)} &amp; &amp;lt; x\n".encode()).stdout.decode() == f"{expected[0]}\n"


def test_the_models_own_settings_hold_unless_told_otherwise(elsewhere: Path, called: Command) -> None:
    model = shutil.copytree(elsewhere / "models" / "averaged", elsewhere / "greedy")
    write_json(model / "decoding.json", {**TINY_DECODING.model_dump(), "beam": 1})
    text = "".join(f"{sentence(seed, 5)}\n" for seed in range(8)).encode()
    greedy = called("--model", "greedy", text=text).stdout
    assert greedy == called("--beam", "1", text=text).stdout
    assert greedy != called(text=text).stdout == called("--beam", "4", text=text).stdout


def test_named_pipe_is_read_once(elsewhere: Path) -> None:
    pipe = elsewhere / "pipe"
    os.mkfifo(pipe)
    process = subprocess.Popen([*COMMAND, "pipe"], cwd=elsewhere, env=ENVIRONMENT, stdout=subprocess.PIPE)
    pipe.write_text(f"{sentence(1, 4)}\n\n{sentence(2, 3)}\n")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert [bool(line) for line in output.decode().split("\n")] == [True, False, True, False]


def test_long_line_is_cut_with_a_warning_that_names_it(elsewhere: Path) -> None:
    lines = [sentence(seed, 3) for seed in range(9)] + [sentence(7, 90)]  # the second chunk begins at line 9
    found = run(elsewhere, text="\n".join(lines).encode())
    assert found.returncode == 0
    assert found.stdout.count(b"\n") == 10
    assert found.stderr.decode().startswith("transformer: line 10 is longer than the model's 31 tokens")
    assert found.stderr.count(b"\n") == 1


def test_nbest_names_line_translation_and_score(called: Command) -> None:
    lines = [sentence(3, 4), "", sentence(4, 2)]
    found = called("--nbest", "3", "--beam", "5", "--alpha", "1", text="\n".join(lines).encode())
    rows = [row.split(" ||| ") for row in found.stdout.decode().splitlines()]
    assert [row[0] for row in rows] == ["1"] * 3 + ["2"] + ["3"] * 3
    scores = [float(row[2]) for row in rows]
    assert scores[:3] == sorted(scores[:3], reverse=True)
    assert rows[3] == ["2", "", "0.0000"]


def test_bad_utf8_names_file_and_line_after_the_good_ones(called: Command) -> None:
    good = "".join(f"{sentence(seed, 2)}\n" for seed in range(10)).encode()
    found = called(text=good + b"caf\xe9\n")
    assert found.returncode == 3
    assert found.stderr.decode().startswith("transformer: stdin, line 11: byte 4 is not UTF-8")
    assert found.stderr.count(b"\n") == 1


def test_closed_pipe_is_silent_and_output_starts_early(elsewhere: Path) -> None:
    process = subprocess.Popen(
        COMMAND, cwd=elsewhere, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin
    assert process.stdout
    assert process.stderr
    line = f"{sentence(5, 2)}\n".encode()
    process.stdin.write(line * 8)
    process.stdin.flush()
    assert process.stdout.readline()  # while stdin is still open
    process.stdout.close()
    process.stdin.write(line * 100)
    process.stdin.close()
    assert process.wait(60) == 0
    assert process.stderr.read() == b""


def test_interrupt_ends_without_a_stack_trace(elsewhere: Path) -> None:
    process = subprocess.Popen(
        COMMAND, cwd=elsewhere, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(f"{sentence(5, 2)}\n".encode() * 8)
    process.stdin.flush()
    assert process.stdout.readline()
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == b""


def test_missing_model_says_what_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "make repro" in wrong(capsys, "--model", str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        (["--beam", "0"], "--beam: must be a whole number from 1 to 64, not 0"),
        (["--beam", "65"], "--beam: must be a whole number from 1 to 64, not 65"),
        (["--beam", "many"], "--beam: must be a whole number from 1 to 64, not many"),
        (["--alpha", "-0.1"], "--alpha: must be a number, at least 0, not -0.1"),
        (["--alpha", "nan"], "--alpha: must be a number, at least 0, not nan"),
        (["--alpha", "inf"], "--alpha: must be a number, at least 0, not inf"),
        (["--batch-tokens", "0"], "--batch-tokens: must be a whole number, at least 1, not 0"),
        (["--nbest", "5"], "--nbest must be 1 to --beam = 4, not 5"),
        (["--device", "tpu"], "auto"),
        (["--colour"], "--colour"),
    ],
)
def test_wrong_value_names_the_allowed_range(
    options: list[str], allowed: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = elsewhere / "models" / "averaged"
    assert allowed in wrong(capsys, "--model", str(model), *options)


def test_missing_input_file_is_one_line(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nothing.txt" in wrong(capsys, "nothing.txt", "--model", str(elsewhere / "models" / "averaged"))


def test_a_folder_that_cannot_be_made_is_one_line(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    below_a_file = elsewhere / "models" / "averaged" / "config.json" / "out"
    model = str(elsewhere / "models" / "averaged")
    assert main(["attention", "a b", "--model", model, "--device", "cpu", "--out", str(below_a_file)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("transformer: ")
    assert (error.count("\n"), str(below_a_file) in error) == (1, True)
