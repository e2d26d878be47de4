"""The Transformer of "Attention Is All You Need" (Vaswani et al., 2017), from text to BLEU."""

import os

# cuBLAS sums in a fixed order only with a workspace of its own, and looks once, before the first product.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
# OpenMP's threads wait for work in a busy loop, which halves the speed of everything that runs beside them and gains
# nothing for one that runs alone. Looked at once, when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
