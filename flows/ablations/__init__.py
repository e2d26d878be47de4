"""Table 3 of the paper as an experiment queue of DVC, and its results beside the paper's."""
