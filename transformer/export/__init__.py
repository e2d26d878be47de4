"""A model folder in the form that other programs load."""
