"""`transformer serve`: a model folder behind HTTP, and one page to try it."""
