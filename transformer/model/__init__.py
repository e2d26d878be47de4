"""The network of section 3 of the paper, and the folders that keep its weights."""
