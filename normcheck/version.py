"""The version, read from the installed package only when somebody asks for more."""

VERSION = "0.1.0"
LINE = f"normcheck {VERSION}"
"""What ``--version`` prints."""
