"""What several rules on stored statistics share: readings, causes, counts, words."""
