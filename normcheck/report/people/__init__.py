"""The report as people read it."""
