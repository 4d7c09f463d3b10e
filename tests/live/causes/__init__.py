"""What running a model tells."""
