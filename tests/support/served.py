"""`transformer serve` for real, in a process of its own."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

from tiny_inputs import CHECKOUT

JSON = {"Content-Type": "application/json"}


class Server:
    """The server over a model folder, on a free port."""

    def __init__(self, model: Path, *options: str, **settings: str) -> None:
        """`settings` are environment variables."""
        command = [sys.executable, "-m", "transformer", "serve", str(model), "--port", "0", *options]
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1", **settings}
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        assert self.process.stderr
        self.greeting = self.process.stdout.readline()
        if not self.greeting:
            raise AssertionError(self.process.stderr.read())
        self.words: list[str] = []  # its lines on stderr
        threading.Thread(target=lambda: self.words.extend(self.process.stderr or ()), daemon=True).start()
        found = re.match(r"http://(?:127\.0\.0\.1|\[::1\]):(\d+) ", self.greeting)
        assert found, self.greeting
        self.port = int(found[1])
        self.address = self.greeting.split()[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.end()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait(60)

    def send(
        self, method: str, path: str, body: bytes | str | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, str, dict[str, str]]:
        """Status, body and headers of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            data = body.encode() if isinstance(body, str) else body
            connection.request(method, path, data, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), {key.lower(): text for key, text in answer.getheaders()}
        finally:
            connection.close()

    def translate(self, lines: list[str], *, headers: dict[str, str] | None = None, **wishes: Any) -> Any:
        """The answer to `POST /translate`, which must be one."""
        body = json.dumps({"lines": lines, **wishes})
        status, body, _ = self.send("POST", "/translate", body, {**JSON, **(headers or {})})
        assert status == 200, body
        return json.loads(body)

    def metric(self, name: str) -> float:
        """The value of one line of `/metrics`."""
        text = self.send("GET", "/metrics")[1]
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0
