"""Rules on a model against the user's data."""
