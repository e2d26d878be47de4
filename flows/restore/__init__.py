"""Outputs as dvc.lock names them: verified, and brought back from DVC's cache or git, stage by stage."""
