"""Rules on what moved between checkpoints."""
