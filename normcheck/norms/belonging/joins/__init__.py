"""Norms that a file does not put next to each other: branches that are joined, and skips."""
