"""The model that a training starts from: found by what a person calls it, and brought to models/parent."""
