"""A saved model as it was read: the values that every reader ends in."""
