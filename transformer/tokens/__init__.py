"""Token ids as every stage from `tokenize` on reads them: special ids, vocabulary, store."""
