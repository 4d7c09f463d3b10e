"""What stands between norms, and what it makes of normal values."""
