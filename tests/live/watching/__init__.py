"""What is seen of a forward, and the model left as it was."""
