"""Repairs: statistics re-estimated in a live model, or written into a copy of a file."""
