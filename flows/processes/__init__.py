"""Processes that are started here: kept alive, bound to their parent, and ended with all that they have started."""
