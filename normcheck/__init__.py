"""normcheck."""
