"""A remote file, read in parts: few requests, side by side, tried again where they fail.

What was fetched is kept up to a bound, so that no byte makes the journey twice while its file
is judged: a pickle is gone through front to back, and weights are looked at more than once.
"""

import random
import time
from bisect import bisect_right, insort
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from normcheck.errors import NormcheckError, UnreadableError
from normcheck.sources.place import RemotePath
from normcheck.sources.remote.remote_errors import explained, passes
from normcheck.sources.source import check_range, ends_early

if TYPE_CHECKING:
    from normcheck.sources.remote.http_ranges import Answer

BLOCK = 1 << 16
"""Bytes that the first read, and a small one, fetch: a journey costs more than they do."""
GAP = 1 << 16
"""Bytes between two wanted spans up to which both are fetched in one piece."""
PART = 8 << 20
"""Bytes of one request; longer spans are fetched in parts, side by side."""
READ_AHEAD = 4 << 20
"""Most bytes that are fetched beyond what was asked for where a file is read front to back."""
KEPT = 128 << 20
"""Bytes of one file that are kept while it is open."""
AT_ONCE = 16
"""Requests under way at a time."""
ATTEMPTS = 5
FIRST_WAIT = 0.25
"""Seconds before the second attempt; each further wait is twice as long, and up to half of it
more or less, so that many readers do not come back at once."""

Span = tuple[int, int]
"""Offset and length in bytes."""


class RemoteSource:
    """One remote file; ``requests`` and ``fetched`` (bytes) say what it has cost."""

    distant = True

    def __init__(self, place: RemotePath) -> None:
        """Ask for the file's first bytes, which tell its size.

        Raises:
            UnreadableError: Missing, denied, unreachable, or on a server without ranges.
        """
        self.place = place
        self.requests = 0
        self.fetched = 0
        self._name = str(place)
        self._version = ""
        self._starts: list[int] = []
        self._kept: dict[int, bytes] = {}
        """By start, the longest unused first; pieces do not overlap."""
        self._ahead = BLOCK
        self._pool: ThreadPoolExecutor | None = None
        self._part = self._connected()
        first = self._try(0, BLOCK)
        self._size = first.total
        self._keep(first.start, first.data)

    @property
    def name(self) -> str:
        """The address as it may be shown."""
        return self._name

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._size

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``."""
        check_range(self._name, offset, length, self._size)
        missing = list(self._missing(offset, length))
        if not missing:
            return self._from_kept(offset, length)
        if length > KEPT // 2:
            # Too long to keep, and then it must not push out what is.
            return b"".join(self._fetch(_parts(offset, length)))
        if len(missing) == 1:
            missing = [self._widened(*missing[0])]
        for start, size in missing:
            spans = _parts(start, size)
            for (begin, _), data in zip(spans, self._fetch(spans), strict=True):
                self._keep(begin, data)
        return self._from_kept(offset, length)

    def fetch_ahead(self, spans: Sequence[Span]) -> None:
        """Fetch what will be read, joined where it lies close together and side by side."""
        wanted: list[Span] = []
        room = KEPT // 2
        for start, length in sorted(set(spans)):
            begin = max(0, start)
            end = min(start + length, self._size)
            for missing_start, missing in self._missing(begin, max(0, end - begin)):
                last = wanted[-1] if wanted else (0, 0)
                reach = last[0] + last[1]
                if wanted and missing_start - reach <= GAP:
                    grown = max(reach, missing_start + missing)
                    wanted[-1] = (last[0], grown - last[0])
                    room -= max(0, grown - reach)
                else:
                    wanted.append((missing_start, missing))
                    room -= missing
            if room <= 0:
                break  # the rest is read when it is asked for
        # Joined pieces may hold what is kept already: only the gaps of it are fetched.
        gaps = [gap for span in wanted for gap in self._missing(*span)]
        parts = [part for gap in gaps for part in _parts(*gap)]
        for (begin, _), data in zip(parts, self._fetch(parts), strict=True):
            self._keep(begin, data)

    def close(self) -> None:
        """Forget what was fetched; connections belong to fsspec, which shares them."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        self._starts.clear()
        self._kept.clear()

    # ---- what is kept ---------------------------------------------------------------------

    def _missing(self, offset: int, length: int) -> Iterator[Span]:
        """The gaps within a span."""
        end = offset + length
        index = max(0, bisect_right(self._starts, offset) - 1)
        for start in self._starts[index:]:
            if start >= end or offset >= end:
                break
            reach = start + len(self._kept[start])
            if reach <= offset:
                continue
            if start > offset:
                yield offset, start - offset
            offset = max(offset, reach)
        if offset < end:
            yield offset, end - offset

    def _from_kept(self, offset: int, length: int) -> bytes:
        pieces: list[bytes] = []
        index = max(0, bisect_right(self._starts, offset) - 1)
        for start in self._starts[index:]:
            if length <= 0:
                break
            data = self._kept[start]
            piece = data[offset - start : offset - start + length]
            pieces.append(piece)
            offset, length = offset + len(piece), length - len(piece)
            # Now the one that was used last.
            self._kept[start] = self._kept.pop(start)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _keep(self, start: int, data: bytes) -> None:
        if not data or start in self._kept:
            return
        self._kept[start] = data
        insort(self._starts, start)
        held = sum(map(len, self._kept.values()))
        while held > KEPT:
            oldest = next(iter(self._kept))
            if oldest == start:
                break
            held -= len(self._kept.pop(oldest))
            self._starts.remove(oldest)

    def _widened(self, start: int, length: int) -> Span:
        """A small gap with what probably is wanted next."""
        end = start + length
        if length >= READ_AHEAD:
            return start, length
        if self._size - start <= BLOCK:
            # The end of a file: a directory, which is read backwards.
            begin = max(0, self._size - BLOCK)
            before = bisect_right(self._starts, start) - 1
            if before >= 0:
                begin = max(begin, self._starts[before] + len(self._kept[self._starts[before]]))
            return min(begin, start), self._size - min(begin, start)
        before = bisect_right(self._starts, start) - 1
        going_on = (
            before >= 0
            and start > 0
            and self._starts[before] + len(self._kept[self._starts[before]]) == start
        )
        self._ahead = min(2 * self._ahead, READ_AHEAD) if going_on else BLOCK
        end = min(self._size, max(end, start + self._ahead))
        after = bisect_right(self._starts, start)
        if after < len(self._starts):
            end = max(start + length, min(end, self._starts[after]))
        return start, end - start

    # ---- the journey ------------------------------------------------------------------------

    def _connected(self) -> "Callable[[int, int], Answer]":
        from normcheck.sources.remote.file_systems import reader

        return reader(self.place)

    def _fetch(self, spans: Sequence[Span]) -> list[bytes]:
        if len(spans) <= 1:
            return [self._fetch_one(span) for span in spans]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="normcheck-fetch")
        return list(self._pool.map(self._fetch_one, spans))

    def _fetch_one(self, span: Span) -> bytes:
        start, length = span
        answer = self._try(start, length)
        data = answer.data[start - answer.start :][:length]
        if len(data) < length:
            raise ends_early(self._name, start, length, answer.total)
        return data

    def _try(self, start: int, length: int) -> "Answer":
        wait = FIRST_WAIT
        for attempt in range(1, ATTEMPTS + 1):
            self.requests += 1
            try:
                answer = self._part(start, length)
            except NormcheckError:
                raise
            except Exception as error:  # whatever a file system's own library raises
                if attempt == ATTEMPTS or not passes(error):
                    raise explained(error, self.place) from None
                time.sleep(wait * random.uniform(0.5, 1.5))  # noqa: S311  (no secret)
                wait *= 2
                continue
            self.fetched += len(answer.data)
            self._same_file(answer)
            return answer
        raise AssertionError("the last attempt returns or raises")

    def _same_file(self, answer: "Answer") -> None:
        if answer.version and not self._version:
            self._version = answer.version
        size: Any = getattr(self, "_size", answer.total)
        if (answer.version and answer.version != self._version) or answer.total != size:
            raise UnreadableError(
                f"{self._name}: the file changed while it was read",
                "something is writing it: scan it again when that is done",
            )


def _parts(start: int, length: int) -> list[Span]:
    """A span in pieces of one request each."""
    return [
        (begin, min(PART, start + length - begin)) for begin in range(start, start + length, PART)
    ]
