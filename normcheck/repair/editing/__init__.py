"""New values written into a file, byte by byte. No torch, nothing run."""
