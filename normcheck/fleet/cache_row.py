"""A result as a row of the cache has it, and what its seal holds for."""

from collections.abc import Sequence
from dataclasses import replace

from normcheck.errors import DamagedError
from normcheck.live.process.wire import read, shrunk, unfolded, written
from normcheck.pipeline.results import FileResult, packed

LAYOUT = 5
"""Of the tables; another one is another program's, or a later version's."""
MOST_BYTES = 16 << 20
"""Of a row, and of each of its pieces unfolded: tens of thousands of layers."""


def sealed(
    scope: bytes, name: str, stamps: str, digest: bytes | None, pieces: Sequence[bytes]
) -> tuple[bytes, ...]:
    """What the seal of a row holds for: all of it, and the layout that says what is where."""
    texts = (text.encode("utf-8", "surrogatepass") for text in (name, stamps))
    return (bytes([LAYOUT]), scope, *texts, digest or b"", *pieces)


def pieces_of(result: FileResult) -> tuple[bytes, bytes, bytes] | None:
    """Head, line and models of a result; None where it is too long to be kept."""
    whole = packed(result)
    head = written(replace(whole, line="", packed=b""))
    line = whole.line.encode("utf-8", "surrogatepass")
    pieces = shrunk(head), shrunk(line), whole.packed
    if max(len(head), len(line)) > MOST_BYTES or sum(map(len, pieces)) > MOST_BYTES // 2:
        return None
    return pieces


def result_of(name: str, head: bytes, line: bytes, models: bytes) -> FileResult | None:
    """The result of a row, its models left packed; None where it is damaged or another's."""
    try:
        result = read(unfolded(head, MOST_BYTES), FileResult)
        text = unfolded(line, MOST_BYTES).decode("utf-8", "surrogatepass")
    except (DamagedError, UnicodeDecodeError):
        return None  # as if it were not there
    return replace(result, line=text, packed=models) if result.target == name else None
