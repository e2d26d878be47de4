"""Stage 1: verified source files from the corpus registry into the raw folder."""
