"""The rules: one a file, each with its page as the docstring, listed in the catalogue."""
