"""Rules on a training loop, as a guard sees it."""
