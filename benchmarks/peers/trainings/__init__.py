"""A training a toolkit, each a program of its own; what it shares with the others needs Python and torch alone."""
