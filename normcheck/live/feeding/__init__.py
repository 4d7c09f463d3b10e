"""What a model is fed: the user's data, or made-up input."""
