"""Statistics estimated from data with a live model, and proof that they help."""
