"""What outputs say: against labels, and of one way of normalising against another."""
