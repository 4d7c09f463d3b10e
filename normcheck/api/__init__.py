"""What Python code calls: plain keyword arguments, by the words of the flags."""
