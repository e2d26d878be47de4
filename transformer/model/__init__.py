"""The network of section 3 of the paper, one module a subsection."""
