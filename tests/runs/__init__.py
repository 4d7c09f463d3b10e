"""What a user asks for: scan and diff."""
