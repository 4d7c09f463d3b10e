"""Memory: whatever a pickle asks for, what is taken stays below the limit."""

import tracemalloc
from pathlib import Path

import pytest

from normcheck.errors import RefusedError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.sources.limits import Limits
from tests.formats import by_hand as hand
from tests.pickles.appetites import APPETITES, ZIPPED

MEMORY = 4 << 20
"""As in the large, so in the small: the count is the same, the test takes a tenth of a second."""


def refused(path: Path, limits: Limits) -> tuple[str, int]:
    """Which limit refused it, and the most memory that was taken meanwhile."""
    tracemalloc.start()
    try:
        with pytest.raises(RefusedError) as caught:
            read_checkpoint(path, limits)
        return caught.value.limit, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", [*APPETITES, *ZIPPED])
def test_memory(name: str, tmp_path: Path) -> None:
    """Every way of taking memory ends at the limit, and before more than that is taken."""
    make = (APPETITES | ZIPPED)[name]
    path = tmp_path / "model.pt"
    data = make(next(n for n in (2_000, 20_000, 200_000) if name in _LARGE or n * 130 > MEMORY))
    path.write_bytes(data)
    if name in ZIPPED:
        hand.torch_zip(path, data, {"0": bytes(16)})
    limit, peak = refused(path, Limits(memory_bytes=MEMORY))
    assert limit == ("dimensions" if name == "shapes" else "memory_bytes")
    # The tables of the reader itself, and the tracing's own.
    assert peak < MEMORY + (1 << 19)


_LARGE = {"shapes", "embedded files", "encoded texts"}
_LARGE |= {name for name in APPETITES if "copies" in name}
"""Each of which takes much."""


def test_limits_are_of_the_file_and_not_of_the_pickle(tmp_path: Path) -> None:
    """A storage that is read a thousand times counts as a thousand pickles."""
    path = tmp_path / "model.pkl"
    path.write_bytes(APPETITES["embedded files"](1_000))
    with pytest.raises(RefusedError) as caught:
        read_checkpoint(path, Limits(opcodes=5_000))
    assert caught.value.limit == "opcodes"
    assert caught.value.hint.endswith("raise --limit opcodes=N")


MEASURED = """
import resource, sys
from pathlib import Path
from normcheck.sources.limits import Limits
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.errors import RefusedError
import normcheck.formats.legacy_pickles
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_checkpoint(Path(sys.argv[1]), Limits(memory_bytes=64 << 20))
except RefusedError as error:
    print(error.limit, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("name", ["dictionaries", "one dictionary", "wide texts"])
def test_memory_of_the_process(name: str, tmp_path: Path, python) -> None:
    """The same as the system sees it: resident memory grows by less than the limit."""
    path = tmp_path / "model.pkl"
    path.write_bytes(APPETITES[name](700_000))
    limit, grown = python(MEASURED, path).stdout.split()
    assert (limit, int(grown) < 64 << 10) == ("memory_bytes", True), grown
