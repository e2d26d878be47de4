"""Stage 1: the sources that data/corpora.yaml lists, verified, in the raw folder."""
