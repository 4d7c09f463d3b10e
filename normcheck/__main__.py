"""``python -m normcheck`` and the console script."""

import os
import sys


def run() -> None:
    """Run the command line and exit with its code."""
    # numpy starts a thread for each core when it is imported, a quarter of the time that
    # its import takes; the products here are too small to gain from them.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from normcheck.cycles import look_no_more, look_rarely

    look_rarely()

    from normcheck.cli.main import main

    code = main()
    look_no_more()
    sys.exit(code)


if __name__ == "__main__":
    run()
