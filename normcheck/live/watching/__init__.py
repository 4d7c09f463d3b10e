"""A forward, what is seen of it, and the model left as it was."""
