"""Training on a CPU beside other toolkits: the same model, the same pieces, batches of as many tokens, by turns."""
