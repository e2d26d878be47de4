"""The record that each executed stage leaves: what `tracking` writes and sends, and `lineage` reads back."""
