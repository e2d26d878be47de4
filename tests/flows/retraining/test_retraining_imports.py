"""A retraining lasts days, and the checkout that it was started from may be on another branch by then."""

import ast
import json
import subprocess
import sys
from pathlib import Path

from tiny_inputs import CHECKOUT

PROGRAM = """
import json, sys
import flows.retraining.flow
print(json.dumps({name: module.__file__ for name, module in sys.modules.items()
                  if name.split(".")[0] in ("flows", "transformer") and module.__file__}))
"""


def late_imports(path: str) -> set[str]:
    """Our own modules that a function of the file imports when it is called."""
    found: set[str] = set()
    for function in ast.walk(ast.parse(Path(path).read_text(encoding="utf-8"))):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.ImportFrom) and node.module:
                    found.add(node.module)
                elif isinstance(node, ast.Import):
                    found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] in ("flows", "transformer")}


def test_no_file_of_the_checkout_is_needed_once_a_retraining_has_begun() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=120
    )
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert {"flows.promotion.gate", "flows.tracking.delivery"} <= set(loaded)
    before = {"flows.checkout.preflight"}  # whose checks are made before the training
    late = {name: late_imports(path) - set(loaded) for name, path in loaded.items() if name not in before}
    assert {name: modules for name, modules in late.items() if modules} == {}
