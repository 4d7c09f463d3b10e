"""What Python code calls."""
