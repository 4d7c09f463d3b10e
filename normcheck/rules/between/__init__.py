"""Rules on what moved between checkpoints (NC6)."""
