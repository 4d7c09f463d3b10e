"""The flags, and their words in the terms of what is run."""
