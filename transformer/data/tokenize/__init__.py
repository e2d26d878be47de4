"""Stage 3: a shared SentencePiece vocabulary and memory-mapped token ids (paper, section 5.1)."""
