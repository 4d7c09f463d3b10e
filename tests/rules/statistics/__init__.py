"""Rules on the statistics in a file."""
