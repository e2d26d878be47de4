"""The record that every executed stage leaves; `flows.tracking` writes and sends it, `flows.lineage` reads it."""
