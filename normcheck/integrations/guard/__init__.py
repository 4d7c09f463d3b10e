"""A guard in a training loop: hooks, what they look at, and what is said."""
