"""Stage 6: scores with signatures and intervals, analysis and pictures."""
