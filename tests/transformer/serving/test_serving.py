"""`transformer serve` over HTTP: what it answers, what it refuses, and how it ends."""

import http.client
import json
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from prefect_server import until
from served import JSON, Server
from tiny_model import sentence

from transformer.cli import main
from transformer.decoding.translation import Options
from transformer.decoding.translator import Translator
from transformer.serving.guard import refusal
from transformer.serving.key import api_key
from transformer.serving.schema import LARGEST_BODY, LONGEST_LINE, MOST_DETAILED, MOST_LINES


def test_a_list_in_gives_a_list_out(server: Server, model: Path) -> None:
    lines = [sentence(1, 4), "", "  ", sentence(2, 2), "a &amp; b", "x\ny\x00\u200b"]
    translator = Translator.load(model)
    answer = server.translate(lines, nbest=3)
    expected = translator.translate_nbest([*lines[:4], "a & b", "x y"], 3)
    assert answer["translations"] == [one[0].text for one in expected]
    assert len(server.translate(lines[:1], nbest=64)["nbest"][0]) == 4  # the beam: another model's may be wider
    texts = [[(one["text"], one["score"]) for one in each] for each in answer["nbest"]]
    assert [[text for text, _ in each] for each in texts] == [[one.text for one in each] for each in expected]
    for found, right in zip(texts[0], expected[0], strict=True):
        assert found[1] == pytest.approx(right.score, abs=1e-4)


def test_details_say_where_attention_was(server: Server, model: Path) -> None:
    line = sentence(3, 5)
    (best,) = Translator.load(model).translate_nbest([line], options=Options(details=True))[0]
    (details,) = server.translate([line], details=True)["nbest"][0][0]["details"]
    assert best.details is not None
    assert details["source_tokens"] == best.details.source_tokens
    assert details["tokens"] == best.details.tokens
    assert [sum(row) for row in details["alignment"]] == pytest.approx([1] * len(details["tokens"]), abs=1e-2)
    assert details["alignment"] == [pytest.approx(row, abs=1e-3) for row in best.details.alignment]


def test_a_line_longer_than_the_model_reads_is_split_and_nothing_is_lost(server: Server) -> None:
    line = f"{sentence(4, 20)}. {sentence(5, 60)}"
    best = server.translate([line], details=True)["nbest"][0][0]
    assert len(best["details"]) > 2
    pieces = [token for part in best["details"] for token in part["source_tokens"][:-1]]
    assert "".join(pieces).replace("▁", " ").replace("<0x2E>", ".").split() == line.split()


def asked(lines: int, characters: int = 1, **wishes: object) -> str:
    return json.dumps({"lines": ["a" * characters] * lines, **wishes})


REFUSED: dict[str, tuple[str | bytes, int, str]] = {
    "no JSON": ('{"lines": [', 400, "the body is no JSON: character 12: Expecting value"),
    "no UTF-8": (b'{"lines": ["\xff"]}', 400, "body"),
    "deep": ("[" * 100_000, 400, "body"),
    "number of 9000 digits": ('{"lines": ["a"], "nbest": %s}' % ("9" * 9000), 400, "body"),
    "empty": ("", 422, "the body must be a JSON object"),
    "a list": ('["a"]', 422, "the body must be a JSON object"),
    "no lines": ("{}", 422, "lines is missing"),
    "lines is no list": ('{"lines": "a"}', 422, "lines = 'a': input should be a valid list"),
    "a line is no text": ('{"lines": ["a", 1e999]}', 422, "lines.1 = inf: input should be a valid string"),
    "a lone surrogate": ('{"lines": ["\\ud800"]}', 422, "lines.0 = '\\ud800'"),
    "unknown key": ('{"lines": ["a"], "beem": 2}', 422, "'beem' is not known; there are lines, nbest, details"),
    "no list at all": ('{"lines": []}', 422, "lines: list should have at least 1 item"),
    "nbest is no number": ('{"lines": ["a"], "nbest": NaN}', 422, "nbest = nan"),
    "nbest beyond any beam": ('{"lines": ["a"], "nbest": 65}', 422, "nbest = 65: input should be less than or equal"),
    "too many lines": (asked(MOST_LINES + 1), 422, f"lines: list should have at most {MOST_LINES}"),
    "too long": (asked(1, LONGEST_LINE + 1), 422, f"lines.0: string should have at most {LONGEST_LINE}"),
    "too much detail": (asked(MOST_DETAILED + 1, details=True), 422, "details are for at most"),
    "too large": (asked(1, LARGEST_BODY), 413, "the body is larger than"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_told_in_one_line(server: Server, name: str) -> None:
    body, status, told = REFUSED[name]
    found = server.send("POST", "/translate", body, JSON)
    assert found[0] == status
    detail = json.loads(found[1])["detail"]
    assert told in detail
    assert "\n" not in detail
    assert len(detail) < 250


def test_a_body_without_a_length_is_limited_too(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", "/translate", iter([b"x" * 100_000] * 3), JSON, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_other_methods_and_paths(server: Server) -> None:
    assert server.send("GET", "/translate")[0] == 405
    assert server.send("GET", "/docs")[0] == 404  # FastAPI's page would load scripts from elsewhere
    assert server.send("POST", "/translate", '{"lines": ["a"]}', {"Content-Type": "text/plain"})[0] == 422


def test_health_and_metrics_tell_the_model_and_count(server: Server, model: Path) -> None:
    health = json.loads(server.send("GET", "/healthz")[1])
    assert (health["status"], health["source"], health["target"], health["problem"]) == ("ok", "en", "de", None)
    assert server.metric(f'transformer_model_info{{sha256="{health["model"]}"}}') == 1
    before = server.metric("transformer_lines_total")
    server.translate([sentence(1, 2)] * 7)
    assert server.metric("transformer_lines_total") == before + 7
    refused = 'transformer_requests_total{path="/translate",status="413"}'
    before = server.metric(refused)
    server.send("POST", "/translate", b"x" * (LARGEST_BODY + 1), JSON)
    assert server.metric(refused) == before + 1


def test_foreign_names_and_origins_get_nothing(server: Server) -> None:
    own = f"127.0.0.1:{server.port}"
    body = json.dumps({"lines": ["a"]})
    for headers in (
        {"Host": "evil.example"},
        {"Host": f"evil.example:{server.port}"},
        {"Origin": "https://evil.example"},
        {"Origin": f"https://{own}"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    ):
        assert server.send("POST", "/translate", body, {**JSON, **headers})[0] == 403, headers
        assert server.send("GET", "/metrics", headers=headers)[0] == 403
    right = {"Origin": f"http://{own}", "Sec-Fetch-Site": "same-origin"}
    assert server.send("POST", "/translate", body, {**JSON, **right})[0] == 200


@pytest.mark.parametrize(
    ("port", "headers", "allowed"),
    [
        (80, {"host": "127.0.0.1"}, True),  # browsers leave port 80 out
        (80, {"host": "127.0.0.1", "origin": "http://127.0.0.1"}, True),
        (8000, {"host": "127.0.0.1"}, False),
        (8000, {"host": "[::1]:8000"}, True),
        (8000, {"host": "mine.example"}, True),
        (8000, {"host": "mine.example:8443", "origin": "https://mine.example:8443"}, True),
        (8000, {"host": "mine.example", "origin": "http://mine.example"}, True),
        (8000, {"host": "mine.example", "origin": "https://mine.example.evil"}, False),
        (8000, {"host": "mine.example", "origin": "https://other.example"}, False),
        (8000, {"host": "evil.mine.example"}, False),
        (8000, {"host": "mine.example.evil"}, False),
        (8000, {"host": ""}, False),
        (8000, {"host": ":8000"}, False),
        (8000, {}, False),
    ],
)
def test_names_of_the_server(port: int, headers: dict[str, str], allowed: bool) -> None:
    given = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"server": ("127.0.0.1", port), "headers": given, "method": "GET"}
    assert (refusal(scope, ["mine.example"]) is None) == allowed


def test_every_answer_forbids_what_the_page_does_not_need(server: Server) -> None:
    for path, headers in (("/", {}), ("/nowhere", {}), ("/healthz", {}), ("/", {"Host": "evil.example"})):
        answered = server.send("GET", path, headers=headers)[2]
        policy = dict(part.strip().split(" ", 1) for part in answered["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["form-action"] == policy["base-uri"] == "'none'"
        assert answered["x-content-type-options"] == "nosniff"


KEY = "a-key-of-some-length"


def test_a_key_is_asked_for_and_shown_nowhere(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    file.chmod(0o600)
    body = json.dumps({"lines": [sentence(1, 2)]})
    with Server(model, "--key-file", str(file), "--name", "translate.example") as server:
        for given in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Basic {KEY}"},
            {"Authorization": "é"},
        ):
            status, text, headers = server.send("POST", "/translate", body, {**JSON, **given})
            assert (status, headers["www-authenticate"]) == (401, "Bearer"), given
            assert server.send("GET", "/metrics", headers=given)[0] == 401
            assert KEY not in text
        right = {"Authorization": f"Bearer {KEY}"}
        assert server.send("POST", "/translate", body, {**JSON, **right})[0] == 200
        assert server.send("GET", "/metrics", headers=right)[0] == 200
        assert server.send("GET", "/")[0] == server.send("GET", "/healthz")[0] == 200
        proxied = {"Host": "translate.example", "Origin": "https://translate.example"}  # TLS ends before
        assert server.send("POST", "/translate", body, {**JSON, **right, **proxied})[0] == 200
        assert server.send("GET", "/", headers={"Host": f"translate.example.evil:{server.port}"})[0] == 403
        arguments = Path(f"/proc/{server.process.pid}/cmdline").read_text()
        assert KEY not in arguments + server.greeting + "".join(server.words)
    monkeypatch.setenv("TRANSFORMER_API_KEY", KEY)
    assert api_key(None) == api_key(file) == KEY


def test_sigterm_finishes_what_was_asked(model: Path) -> None:
    server = Server(model)
    lines = [sentence(seed, 4) for seed in range(120)]
    answers = list[list[str]]()

    def ask() -> None:
        answers.append(server.translate(lines)["translations"])

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for one in asking:
        one.start()
    until(lambda: server.metric("transformer_waiting_lines") > 0, 30, "lines in the queue")
    assert server.end() == 0
    for one in asking:
        one.join(60)
    assert answers == [Translator.load(model).translate(lines)] * 4
    with pytest.raises(ConnectionRefusedError):
        server.send("GET", "/healthz")
    assert "".join(server.words) == ""


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGHUP])
def test_other_signals_end_it_too(model: Path, number: signal.Signals) -> None:
    server = Server(model)
    idle = socket.create_connection(("127.0.0.1", server.port))  # keeps nothing from ending
    assert server.end(number) == 0
    idle.close()
    assert "".join(server.words) == ""


def test_lines_of_a_client_that_has_left_are_not_translated(server: Server) -> None:
    def leave() -> None:
        body = json.dumps({"lines": [sentence(seed, 9) for seed in range(128)], "nbest": 4})
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("POST", "/translate", body, JSON)
        time.sleep(0.2)
        connection.close()

    batches = server.metric("transformer_batch_lines_sum")
    for _ in range(6):
        leave()
    until(lambda: server.metric("transformer_waiting_lines") == 0, 60, "an empty queue")
    assert server.metric("transformer_batch_lines_sum") - batches < 6 * 128


def wrong(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    """Exit status and message of a command that fails with one line."""
    status = main(["serve", *options])
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    return status, output.err


def test_what_a_person_types_wrong_is_told_in_one_line(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRANSFORMER_API_KEY", raising=False)
    served = str(model)
    assert wrong(capsys, "nowhere") == (
        3, "transformer: 'nowhere' is missing: run `make repro`, or name a model folder on the command line\n",
    )  # fmt: skip
    assert wrong(capsys, str(tmp_path))[0] == 3
    assert "must be a whole number from 0 to 65535" in wrong(capsys, served, "--port", "65536")[1]
    assert "--host 0.0.0.0 lets other machines in" in wrong(capsys, served, "--host", "0.0.0.0")[1]  # noqa: S104
    assert (
        "--host nowhere.invalid" in wrong(capsys, served, "--host", "nowhere.invalid", "--key-file", key(tmp_path))[1]
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"port {port} of 127.0.0.1: Address already in use" in wrong(capsys, served, "--port", port)[1]


def key(folder: Path, text: str = KEY, mode: int = 0o600) -> str:
    file = folder / "key"
    file.write_text(text)
    file.chmod(mode)
    return str(file)


@pytest.mark.parametrize(
    ("text", "mode", "told"),
    [
        (KEY, 0o640, "can be read by others (mode 640): chmod 600"),
        ("too-few-42", 0o600, "must be a key of at least 16"),
        (f"{KEY} {KEY}", 0o600, "must be a key of at least 16"),
        ("", 0o600, "must be a key of at least 16"),
    ],
)
def test_a_key_that_is_none(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, mode: int, told: str
) -> None:
    status, line = wrong(capsys, str(model), "--key-file", key(tmp_path, text, mode))
    assert (status, told in line) == (3, True)
    assert not text or text not in line


def test_a_missing_key_file_and_a_wrong_variable(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wrong(capsys, str(model), "--key-file", "nowhere")[1].endswith("nowhere: No such file or directory\n")
    monkeypatch.setenv("TRANSFORMER_API_KEY", "")
    assert wrong(capsys, str(model))[0] == 2


def test_help_needs_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    assert "127.0.0.1" in capsys.readouterr().out
