"""Many checkpoints."""
