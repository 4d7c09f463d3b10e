"""What is left out at the end of a process."""

import subprocess
import sys

ENDING = """
import gc, sys
from normcheck.__main__ import run
sys.argv = ["normcheck", *sys.argv[1:]]
try:
    run()
except SystemExit as end:
    print(len(gc.get_objects()), end.code)
"""


def test_the_end_has_nothing_to_look_through_for_cycles() -> None:
    """The objects of a run are left to the system, and its exit code is what it was."""
    for word, code in (("--version", "0"), ("--no-such-flag", "2")):
        done = subprocess.run(
            [sys.executable, "-c", ENDING, word], capture_output=True, text=True, check=True
        )
        objects, told = done.stdout.split()[-2:]
        assert told == code
        assert int(objects) < 100  # some 40,000 otherwise
