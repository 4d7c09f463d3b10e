"""Results of earlier runs, so that a file that did not change is not read again.

When is a result still good? It follows from the file's bytes, the rules with their thresholds,
the limits, and normcheck's own code. The last three are hashed into a scope. For the bytes
there are two answers, each enough:

- The file's *stamp* is what it was: device, inode, size, time of the last change of the content
  and of the inode. Every write moves the inode's time, and no program can set that back, so a
  change that keeps size and modification time is seen. As in version control, the stamp does not
  count for a file that changed within a moment of being read: a second change may have fallen
  into the same tick of the clock.
  A folder that is one checkpoint has the stamps of all that is in it, a remote file what its
  server calls its version (an ETag, a generation, a hash).
- The *digest* of the whole content is what it was. It is for files that were copied, checked
  out or touched, and only for small ones: to hash a large file takes longer than to scan it,
  which reads only what is judged.

Kept are results without errors, in three pieces: what every output
counts, the line of JSON Lines, and the models, which only some outputs show. A damaged or
locked store costs time, never a result: what comes out is data that nothing can be hidden in
(see ``live.wire``).
"""

import contextlib
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from normcheck.config.settings import Settings
from normcheck.errors import UsageError
from normcheck.fleet.cache_scope import Scopes, code_digest
from normcheck.fleet.file_stamp import Stamp, digest_of, stamp_of
from normcheck.fleet.fleet_request import Fleet
from normcheck.live.process.wire import DAMAGED, read, written
from normcheck.pipeline.results import FileResult, packed
from normcheck.sources.targets import Target
from normcheck.writing.destination import Kind, Place, place_of

_LAYOUT = 2
"""Of the tables; another one is another program's, or a later version's."""
_APPLICATION = 0x6E6F726D
"""Signs the file as ours, in SQLite's own header."""
_LOCK_SECONDS = 30.0
_KEEP_SECONDS = 1.0
"""At most that much work is lost when the run is killed."""
_TABLE = """
CREATE TABLE IF NOT EXISTS results (
    scope BLOB NOT NULL, name TEXT NOT NULL,
    stamp TEXT NOT NULL, digest BLOB,
    head BLOB NOT NULL, line BLOB NOT NULL, models BLOB NOT NULL, checksum INTEGER NOT NULL,
    code BLOB NOT NULL, PRIMARY KEY (scope, name)
) WITHOUT ROWID
"""

_INSERT = "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"

Work = Iterable[Target | FileResult]


def remembered(
    work: Work,
    settings: Settings,
    fleet: Fleet,
    examined: Callable[[Work], Generator[FileResult, None, None]],
) -> Generator[FileResult, None, None]:
    """What ``examined`` yields, without examining what is known.

    Args:
        work: Files, and results that are there already.
        settings: What to check.
        fleet: With the file of the cache.
        examined: Does what is left, in order; results that are given to it pass through.

    Raises:
        UsageError: The cache is no cache, cannot be written, or a run is asked for.
    """
    if settings.running is not None:
        raise UsageError(
            "--cache keeps what was read, a run depends on code and data besides",
            "leave --cache or the run out",
        )
    if fleet.cache is None:
        yield from examined(work)
        return
    with closing(Store(fleet.cache, settings)) as store:
        wanted: dict[str, _Before] = {}
        with closing(examined(_lookup(work, store, wanted))) as results:
            for result in results:
                before = wanted.pop(result.target, None)
                if before is not None:
                    store.keep(result, before)
                yield result
    if store.trouble:
        fleet.announce(f"the cache {fleet.cache} was not completed: {store.trouble}")


class _Before:
    """A file as it was before it was read."""

    __slots__ = ("explicit", "stamp", "when")

    def __init__(self, target: Target, stamp: Stamp) -> None:
        self.explicit = target.explicit
        self.stamp = stamp
        self.when = time.time()


def _lookup(
    work: Work, store: "Store", wanted: dict[str, _Before]
) -> Iterator[Target | FileResult]:
    for item in work:
        if isinstance(item, FileResult):
            yield item
            continue
        known = store.find(item)
        if known is not None:
            yield known
            continue
        stamp = stamp_of(str(item.path))
        if stamp is not None:
            wanted[str(item.path)] = _Before(item, stamp)
        yield item


class Store:
    """The file of a cache, open. Several processes may use one at the same time."""

    def __init__(self, path: Path, settings: Settings) -> None:
        """Open the file, or make it.

        Raises:
            UsageError: It is something else, or cannot be written.
        """
        self.trouble = ""
        self._code = code_digest()
        self._scopes = Scopes(settings, self._code)
        self._last = time.monotonic()
        self._rows: list[tuple[object, ...]] = []
        place = _file_of(path)
        try:
            self._base = sqlite3.connect(place.path, timeout=_LOCK_SECONDS, isolation_level=None)
        except sqlite3.Error as error:
            raise UsageError(
                f"--cache {path}: cannot be opened ({error})",
                "name a file in a folder that exists and is writable",
            ) from error
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._base.close()
            _leave_nothing(place)
            raise UsageError(
                f"--cache {path}: not a cache of normcheck that can be used ({error})",
                "name another file, or delete this one if it is a cache: it can be made again",
            ) from error

    def _prepare(self) -> None:
        empty = not self._base.execute("PRAGMA schema_version").fetchone()[0]
        application = self._base.execute("PRAGMA application_id").fetchone()[0]
        layout = self._base.execute("PRAGMA user_version").fetchone()[0]
        if not empty and (application != _APPLICATION or layout > _LAYOUT):
            raise sqlite3.DatabaseError("another program's database, or a later version's")
        if layout != _LAYOUT:
            self._base.execute("BEGIN IMMEDIATE")
            # An earlier version's results are of no more use, as those of other rules.
            self._base.execute("DROP TABLE IF EXISTS results")
            self._base.execute(_TABLE)
            self._base.execute(f"PRAGMA application_id = {_APPLICATION}")
            self._base.execute(f"PRAGMA user_version = {_LAYOUT}")
            self._base.execute("COMMIT")
        # What other versions of the rules said is of no more use.
        self._base.execute("DELETE FROM results WHERE code != ?", (self._code,))

    def find(self, target: Target) -> FileResult | None:
        """What is known of a file that is what it was; None where it has to be read."""
        name = str(target.path)
        row = None
        with contextlib.suppress(sqlite3.Error):
            row = self._base.execute(
                "SELECT stamp, digest, head, line, models, checksum FROM results "
                "WHERE scope = ? AND name = ?",
                (self._scopes.of(target.path, explicit=target.explicit), name),
            ).fetchone()
        if row is None or not self._same(name, row[0], row[1]):
            return None
        return _unpacked(name, *row[2:])

    def _same(self, name: str, stamps: str, digest: bytes | None) -> bool:
        files = Stamp.parsed(stamps)
        now = [stamp_of(stamp.file) for stamp in files]
        if all(a.settled and b is not None and a.same(b) for a, b in zip(files, now, strict=True)):
            return True
        # One file of the same length: its content may still be what it was.
        return (
            digest is not None
            and now[0] is not None
            and now[0].size == files[0].size
            and digest_of(name, now[0].size) == digest
        )

    def keep(self, result: FileResult, before: _Before) -> None:
        """Remember a result, where nothing changed while it was made.

        Args:
            result: Just made.
            before: Its file, as it was before that.
        """
        stamps = _stamps(result, before)
        if self.trouble or result.errors or stamps is None:
            return
        self._rows.append(
            (
                self._scopes.of(Path(result.target), explicit=before.explicit),
                result.target,
                Stamp.joined(stamps),
                digest_of(result.target, stamps[0].size) if len(stamps) == 1 else None,
                *_packed(result),
                self._code,
            )
        )
        if time.monotonic() - self._last > _KEEP_SECONDS:
            self._write()

    def _write(self) -> None:
        """Write what is new at once, so that nobody else waits while a slow file is read."""
        rows, self._rows = self._rows, []
        self._last = time.monotonic()
        if not rows or self.trouble:
            return
        try:
            self._base.execute("BEGIN IMMEDIATE")
            self._base.executemany(_INSERT, rows)
            self._base.execute("COMMIT")
        except sqlite3.Error as error:
            self.trouble = str(error)

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._write()
        self._base.close()


def _file_of(path: Path) -> Place:
    """Where the database is or comes to be, all links followed.

    Raises:
        UsageError: SQLite cannot keep anything there; a FIFO would be waited for in vain.
    """
    place = place_of(path)
    if not place.replaced:
        raise UsageError(
            f"--cache {path}: a cache is a regular file, and this is none", "name another file"
        )
    return place


def _leave_nothing(place: Place) -> None:
    """Remove a new database that nothing could be written into."""
    if place.kind is Kind.NEW:
        with contextlib.suppress(OSError):
            if not place.path.stat().st_size:
                place.path.unlink()


def _stamps(result: FileResult, before: _Before) -> list[Stamp] | None:
    """Stamps of all files that the result rests on; None where one changed meanwhile."""
    now = stamp_of(result.target)
    if now is None or not before.stamp.same(now):
        return None
    stamps = [now.against(before.when)]
    for file in result.files:
        if file == result.target or file.startswith(f"{result.target}{os.sep}"):
            continue  # a folder's stamp is that of all in it
        # When it was opened is not known, only that it was after ``before``.
        stamp = stamp_of(file)
        if stamp is None or not stamp.against(before.when).settled:
            return None
        stamps.append(stamp.against(before.when))
    return stamps


def _packed(result: FileResult) -> tuple[bytes, bytes, bytes, int]:
    """A result as a row has it: head, line, models, and a checksum of the three."""
    whole = packed(result)
    head = written(replace(whole, line="", packed=b""))
    pieces = [zlib.compress(head, 1), zlib.compress(whole.line.encode(), 1), whole.packed]
    return pieces[0], pieces[1], pieces[2], zlib.crc32(b"".join(pieces))


def _unpacked(
    name: str, head: bytes, line: bytes, models: bytes, checksum: int
) -> FileResult | None:
    """The result of a row, its models left packed; None where it is damaged."""
    try:
        if zlib.crc32(b"".join((head, line, models))) != checksum:
            return None
        result = read(zlib.decompress(head))
        if not isinstance(result, FileResult) or result.target != name:
            return None
        text = zlib.decompress(line).decode()
        return replace(result, line=text, packed=models)
    except (zlib.error, *DAMAGED):
        return None  # as if it were not there
