"""From one file to its part of the report."""
