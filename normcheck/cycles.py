"""How often Python looks for cycles among objects, in a process that reads files."""

import gc


def look_rarely() -> None:
    """Look for cycles less often than Python does by itself.

    Thousands of objects are made at the start and for each large file, and next to none of them
    are in cycles: to look for those after every 700 takes a tenth of the time.
    """
    gc.set_threshold(20_000, 20, 20)
