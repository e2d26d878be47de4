"""The servers that a team works with: `python -m flows.server` starts them on loopback, `.setup` prepares others."""
