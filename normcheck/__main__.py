"""``python -m normcheck`` and the console script."""

import sys


def run() -> None:
    """Run the command line and exit with its code."""
    from normcheck.cli.main import main

    sys.exit(main())


if __name__ == "__main__":
    run()
