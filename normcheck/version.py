"""The version, and where the project lives: written here, and nowhere else by hand."""

VERSION = "0.1.0"
LINE = f"normcheck {VERSION}"
"""What ``--version`` prints."""
REPOSITORY = "https://github.com/normcheck/normcheck"
"""What the package's project URLs, its page on an index and SARIF's help addresses begin with."""


def address_of(path: str) -> str:
    """Where a file of the repository is read, as it was at this version.

    Args:
        path: From the root of the repository, with slashes.
    """
    return f"{REPOSITORY}/blob/v{VERSION}/{path}"
