"""Whether a new model replaces the champion: the comparison (`gate`), and MLflow's registry (`registry`)."""
