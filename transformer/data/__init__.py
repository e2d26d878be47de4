"""From source files on the web to token ids: one subpackage a stage (download, prepare, tokenize)."""
