"""What a user asks for, each on one page: scan, diff, fix."""
