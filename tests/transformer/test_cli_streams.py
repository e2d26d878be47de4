"""The command between other programs: as a co-process, with streams that are closed, full or no text at all."""

import gzip
import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_model import sentence, write_tiny_model

from transformer.cli import main
from transformer.cli.lines import LONGEST_LINE, LineReader, chunks, reading
from transformer.cli.output import write_out
from transformer.errors import DataError, ExitCode

CHECKOUT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
COMMAND = f"{sys.executable} -m transformer"
SENTENCE = sentence(1, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, and a few files."""
    made = tmp_path_factory.mktemp("streams")
    write_tiny_model(made / "models" / "averaged")
    (made / "text").write_text(f"{SENTENCE}\n")
    (made / "text.gz").write_bytes(gzip.compress(SENTENCE.encode() * 9))
    (made / "utf16").write_bytes(f"{SENTENCE}\n".encode("utf-16"))
    (made / "latin1").write_bytes(f"{SENTENCE}\n".encode() + b"caf\xe9\n")
    (made / "endless").write_bytes(b"x" * (LONGEST_LINE + 2))
    return made


def shell(folder: Path, line: str) -> tuple[int, str, list[str]]:
    """Status, stdout and the lines of stderr of a command line, in which `transformer` is the command."""
    line = line.replace("transformer", COMMAND, 1)
    done = subprocess.run(["bash", "-c", line], cwd=folder, env=ENVIRONMENT, capture_output=True, timeout=300)
    return done.returncode, done.stdout.decode(), done.stderr.decode().splitlines()


@pytest.mark.parametrize(
    ("line", "status", "told"),
    [
        ("transformer translate <&-", 3, "stdin is closed: name a FILE, or pipe text into the command"),
        ("transformer translate text >&-", 1, "stdout is closed: there is nowhere to write to"),
        ("transformer --help >&-", 1, "stdout is closed: there is nowhere to write to"),
        ("transformer --help > /dev/full", 1, "stdout cannot be written: No space left on device"),
        ("transformer translate text > /dev/full", 1, "stdout cannot be written: No space left on device"),
        ("transformer translate 0>out", 3, "stdin cannot be read: Bad file descriptor"),
        ("transformer translate 'Hello world'", 3, "'Hello world' cannot be read: No such file or directory; FILE "
         "holds a sentence a line; to give a sentence itself: echo 'A sentence.' | transformer translate"),
        (f"transformer translate '{'long ' * 200}'", 3, "cannot be read: File name too long; FILE holds"),
        ("transformer translate text/x", 3, "'text/x' cannot be read: Not a directory; FILE holds"),
        ("transformer translate models", 3, "models cannot be read: Is a directory"),
        ("transformer translate /proc/self/mem", 3, "/proc/self/mem cannot be read: Input/output error"),
        ("transformer translate latin1", 3, "latin1, line 2: byte 4 is not UTF-8; convert the text first"),
        ("transformer translate text.gz", 3, "text.gz is compressed (gzip): unpack it, or pipe it in"),
        ("transformer translate < utf16", 3, "stdin, line 1: byte 1 is not UTF-8; convert the text first (iconv -f "
         "utf-16 -t utf-8)"),
        ("transformer translate endless", 3, "endless, line 1 has more than 1048576 bytes: is it text"),
        ("transformer translate --model text", 3, "'text' is no folder: run `make repro`, or name a model folder"),
        (f"transformer translate --model {'m' * 300}", 3, "is missing: run `make repro`, or name a model folder"),
        ("transformer translate --model models", 3, "models is not a complete model folder"),
        ("transformer translate --alpha 1e308 text", 2, "--alpha = 1e+308: more than 10 is no search"),
        ("transformer translate --alpha 1e999 text", 2, "--alpha: must be a number, at least 0, not 1e999"),
        (f"transformer translate --beam {'9' * 5000} text", 2, "--beam: must be a whole number from 1 to 64, not 99"),
        ("transformer translate Hello world", 2, "unrecognized arguments: world (see transformer --help)"),
        ("transformer", 2, "the following arguments are required: COMMAND (see transformer --help)"),
        ("transformer attention 'the light' --out text", 1, "text: File exists"),
        ("transformer attention 'the light' --out text/x", 1, "text/x: Not a directory"),
        ("transformer score - -", 2, "SOURCE and TARGET can't both be stdin: name a file for one of them"),
        ("transformer score text 'Hallo Welt'", 3, "'Hallo Welt' cannot be read: No such file or directory"),
    ],
)  # fmt: skip
def test_what_can_not_be_is_one_line_and_a_documented_status(folder: Path, line: str, status: int, told: str) -> None:
    found, _, errors = shell(folder, line)
    assert (found, len(errors)) == (status, 1), errors
    assert errors[0].startswith("transformer: ")
    assert told in errors[0]
    assert len(errors[0]) < 400
    assert status in set(ExitCode)


def test_the_help_lists_the_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    listed = [int(line.split()[0]) for line in capsys.readouterr().out.splitlines() if line[2:3].isdigit()]
    assert listed == [0, 1, 2, 3, 6, 130]


def test_without_stderr_nothing_else_is_written_to(folder: Path) -> None:
    assert shell(folder, "transformer translate nothing 2>&-") == (3, "", [])
    assert shell(folder, "transformer translate nothing 2>/dev/full") == (3, "", [])


def test_a_coprocess_answers_each_line(folder: Path) -> None:
    command = [*COMMAND.split(), "translate", "-"]
    with subprocess.Popen(
        command, cwd=folder, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        watch = threading.Timer(300, process.kill)
        watch.start()
        for seed in range(3):
            process.stdin.write(f"{sentence(seed, 3)}\n".encode())
            process.stdin.flush()
            assert process.stdout.readline().strip()
        process.stdin.write(f"{SENTENCE}\r\n\n{SENTENCE}".encode())  # CRLF, an empty line, and no end of the last one
        process.stdin.close()
        answers = process.stdout.read().decode().split("\n")
        watch.cancel()
    assert process.returncode == 0
    assert answers == [answers[0], "", answers[0], ""]
    assert answers[0]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def test_lines_are_taken_as_they_come_and_pieces_of_them_wait(pipe: tuple[int, int]) -> None:
    reader = LineReader(pipe[0], "pipe")
    os.write(pipe[1], b"a\r\nb\nc")
    assert reader.take(8) == ["a", "b"]
    threading.Timer(0.2, os.write, (pipe[1], b"d\ne\nf\n")).start()
    assert reader.take(2) == ["cd", "e"]
    assert reader.take(2) == ["f"]
    os.write(pipe[1], b"last")
    os.close(pipe[1])
    assert [reader.take(8), reader.take(8)] == [["last"], []]


def test_a_pipe_that_does_not_block_is_waited_for(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[0], False)
    threading.Timer(0.2, os.write, (pipe[1], b"a\n")).start()
    assert LineReader(pipe[0], "pipe").take(8) == ["a"]


def test_output_waits_for_a_full_pipe_that_does_not_block(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.set_blocking(pipe[1], False)
    text, found = "".join(f"{number}\n" for number in range(100_000)), io.BytesIO()

    def read() -> None:
        while block := os.read(pipe[0], 1000):
            found.write(block)

    reader = threading.Thread(target=read)
    with open(pipe[1], "w", closefd=False) as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        reader.start()
        write_out(text)
        write_out("end\n")
    os.close(pipe[1])
    reader.join()
    assert found.getvalue().decode() == text + "end\n"


def test_a_big_file_is_read_in_growing_chunks(tmp_path: Path) -> None:
    lines = [f"{number} " * 20 for number in range(30_000)]
    path = tmp_path / "big"
    path.write_text("\n".join(lines))
    with reading(path) as reader:
        sizes, found = list[int](), list[str]()
        for chunk in chunks(reader):
            sizes.append(len(chunk))
            found += chunk
            assert len(reader._waiting) < 2000  # what has been read and not taken
    assert [line.strip() for line in lines] == [line.strip() for line in found]
    assert sizes[:4] == [8, 16, 32, 64]
    assert max(sizes) == 4096


def test_the_good_lines_before_a_bad_one_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "mixed"
    path.write_bytes(b"one\ntwo\n\xff\n")
    with reading(path) as reader:
        assert reader.take(8) == ["one", "two"]
        for _ in range(2):
            with pytest.raises(DataError, match="line 3: byte 1 is not UTF-8"):
                reader.take(8)
