"""What moved between checkpoints of one model: aligned, measured, told."""
