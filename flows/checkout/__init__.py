"""Where work happens: git, the worktrees of retrainings and reproductions, and the user's workspace."""
