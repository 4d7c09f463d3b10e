"""``python -m normcheck`` and the console script."""

import gc
import os
import sys


def run() -> None:
    """Run the command line and exit with its code."""
    # numpy starts a thread for each core when it is imported, a quarter of the time that
    # its import takes; the products here are too small to gain from them.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Thousands of objects are made at the start and for each large file, and next to none of
    # them are cycles: to look for those after every 700 takes a tenth of the time.
    gc.set_threshold(20_000, 20, 20)

    from normcheck.cli.main import main

    sys.exit(main())


if __name__ == "__main__":
    run()
