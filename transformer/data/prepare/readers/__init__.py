"""Readers: every format of a part as the same stream of sentence pairs, a module a format."""
