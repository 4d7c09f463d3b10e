"""normcheck within training loops, tests and trackers of other people; each imported on its own."""
