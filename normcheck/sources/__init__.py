"""Where a model lies: places, patterns and targets, and bytes read at an offset."""
