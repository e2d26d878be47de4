"""schemathesis makes requests of the server's own OpenAPI, right and wrong ones: no 5xx, nothing undocumented."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from served import Server

SECONDS = int(os.environ.get("FUZZ_SECONDS", "20"))
SEED = os.environ.get("FUZZ_SEED", "1")
KEY = "a-key-of-some-length"
# A schema can't say that details are for so many lines times nbest.
LEFT_OUT = "positive_data_acceptance"
# A wrong request may be too large besides, which is what it is told; schemathesis does not expect that 413 by itself.
SETTINGS = """
[checks.negative_data_rejection]
expected-statuses = ["4xx"]
"""


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("key", [None, KEY], ids=["open", "with a key"])
def test_no_request_gets_what_the_schema_does_not_say(model: Path, tmp_path: Path, key: str | None) -> None:
    settings = {"TRANSFORMER_API_KEY": key} if key else {}
    shown = ["--header", f"Authorization: Bearer {key}"] if key else []
    (tmp_path / "schemathesis.toml").write_text(SETTINGS)
    with Server(model, **settings) as server:
        command = [
            Path(sys.executable).with_name("st"), "run", f"{server.address}/openapi.json", "--no-color",
            "--checks", "all", "--exclude-checks", LEFT_OUT, "--max-time", str(SECONDS), "--seed", SEED, *shown,
        ]  # fmt: skip
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert " failed" not in done.stdout, done.stdout
        right = {"Authorization": f"Bearer {key}"} if key else {}
        assert server.translate(["a"], headers=right)["translations"]
        counted = server.send("GET", "/metrics", headers=right)[1]
        assert 'path="/translate",status="200"' in counted
        assert 'status="5' not in counted
        assert "Traceback" not in "".join(server.words)
