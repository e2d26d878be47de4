"""What a quick import of torch leaves out is there for whoever asks for it, and garbage is collected again."""

import subprocess
import sys

SCRIPT = """
import gc, sys
from transformer.cli.torch_import import UNUSED, import_torch

import_torch()
import torch

assert UNUSED not in sys.modules and not hasattr(torch, "_meta_registrations")
assert gc.isenabled() and gc.get_freeze_count() > 100_000
query = torch.empty(2, 3, 4, 8, device="meta")
from torch import _meta_registrations

assert _meta_registrations.__file__
assert torch.nn.functional.scaled_dot_product_attention(query, query, query).shape == query.shape
compiled = torch.compile(lambda x: torch.nn.functional.layer_norm(x, (4,)) + 1, backend="aot_eager")
assert compiled(torch.zeros(2, 4)).tolist() == [[1.0] * 4] * 2
import_torch()  # the second time there is nothing to do
"""


def test_what_is_left_out_comes_when_it_is_asked_for() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
