"""Places, patterns, targets and bytes."""
