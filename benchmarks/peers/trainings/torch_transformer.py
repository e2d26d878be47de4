"""torch.nn.Transformer (`benchmarks/torch_transformer.py`) with this project's batches and optimizer."""

import transformer  # before torch is loaded: it sets what torch reads only then
from benchmarks.peers.trainings.ours import main
from benchmarks.training import BASELINE

if __name__ == "__main__":
    assert transformer
    main(BASELINE)
