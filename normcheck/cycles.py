"""How often Python looks for cycles among objects, in a process that reads files."""

import gc


def look_rarely() -> None:
    """Look for cycles less often than Python does by itself.

    Thousands of objects are made at the start and for each large file, and next to none of them
    are in cycles: to look for those after every 700 takes a tenth of the time. What is imported
    makes some 80,000.
    """
    gc.set_threshold(100_000, 20, 20)


def look_no_more() -> None:
    """Leave what is in cycles to the system, in a process that is about to end.

    Python looks through all objects when it ends, and again when modules are gone: a sixth of the
    time of a scan of one small file.
    """
    gc.freeze()
