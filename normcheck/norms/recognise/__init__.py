"""Telling which layers are norms, and of which kind."""
