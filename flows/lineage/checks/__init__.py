"""What `lineage verify` checks, a module for each kind of evidence; each yields links: ok, missing or broken."""
