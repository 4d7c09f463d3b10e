"""The report as programs read it."""
