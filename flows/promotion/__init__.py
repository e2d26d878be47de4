"""Whether a new model replaces the champion: the comparison (`gate`), approval, and the alias in MLflow."""
