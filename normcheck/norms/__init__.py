"""What a normalization layer is, and finding them in what was read."""
