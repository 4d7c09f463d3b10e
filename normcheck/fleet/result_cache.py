"""Results of earlier runs, so that a file that did not change is not read again.

When is a result still good? It follows from the file's bytes, from what is done with the file
(the rules with their thresholds, the limits), and from normcheck's own code. The last two are
hashed whole into a scope. For the bytes
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
locked store costs time, never a result.

Whose word is a row? It is sealed with the user's key (see ``seal``), together with the name, the
scope and the stamp that it was made for: a row of another's, one that was changed, and one under
another name are as good as none. What it unfolds to are values of a result and nothing else
(see ``live.wire``), no more than ``MOST_BYTES`` of each piece.
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from normcheck.errors import NormcheckError, UsageError
from normcheck.fleet.cache_file import place_of_database, remove_empty
from normcheck.fleet.cache_row import LAYOUT, MOST_BYTES, pieces_of, result_of, sealed
from normcheck.fleet.cache_scope import Scopes, code_digest
from normcheck.fleet.cache_seal import Seal, users_seal
from normcheck.fleet.file_stamp import Stamp, digest_of, stamp_of
from normcheck.fleet.file_task import FileTask
from normcheck.fleet.fleet_request import Fleet
from normcheck.formats.targets import Target
from normcheck.pipeline.results import FileResult

_APPLICATION = 0x6E6F726D
"""Signs the file as ours, in SQLite's own header."""
_LOCK_SECONDS = 30.0
_KEEP_SECONDS = 1.0
"""At most that much work is lost when the run is killed."""
_TABLE = """CREATE TABLE results (
    scope BLOB NOT NULL, name TEXT NOT NULL,
    stamp TEXT NOT NULL, digest BLOB,
    head BLOB NOT NULL, line BLOB NOT NULL, models BLOB NOT NULL, seal BLOB NOT NULL,
    code BLOB NOT NULL, PRIMARY KEY (scope, name)
) WITHOUT ROWID"""
_SELECT = (
    "SELECT stamp, digest, head, line, models, seal FROM results WHERE scope = ? AND name = ? "
    "AND length(stamp) + length(head) + length(line) + length(models) <= ?"
)

_INSERT = "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"

Work = Iterable[Target | FileResult]


def remembered(
    work: Work,
    task: FileTask,
    fleet: Fleet,
    examined: Callable[[Work], Generator[FileResult, None, None]],
) -> Generator[FileResult, None, None]:
    """What ``examined`` yields, without examining what is known.

    Args:
        work: Files, and results that are there already.
        task: What is done with each file.
        fleet: With the file of the cache.
        examined: Does what is left, in order; results that are given to it pass through.

    Raises:
        UsageError: The cache is no cache, cannot be written, or a run is asked for.
    """
    if task.examination.running is not None:
        raise UsageError(
            "--cache keeps the results of reading; a run also depends on code and data",
            "leave --cache or the run out",
        )
    if fleet.cache is None:
        yield from examined(work)
        return
    try:
        seal = users_seal()
    except NormcheckError as error:
        fleet.announce(f"the cache {fleet.cache} is not used: {error.message} ({error.hint})")
        yield from examined(work)
        return
    with closing(Store(fleet.cache, task, seal)) as store:
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

    __slots__ = ("explicit", "path", "stamp", "when")

    def __init__(self, target: Target, stamp: Stamp) -> None:
        self.explicit = target.explicit
        self.path = target.path
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

    def __init__(self, path: Path, task: FileTask, seal: Seal) -> None:
        """Open the file, or make it.

        Args:
            path: The file.
            task: Of the run.
            seal: Of the rows that are believed.

        Raises:
            UsageError: It is something else, or cannot be written.
        """
        self.trouble = ""
        self._seal = seal
        self._code = code_digest()
        self._scopes = Scopes(task, self._code)
        self._last = time.monotonic()
        self._rows: list[tuple[object, ...]] = []
        place = place_of_database(path)
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
            remove_empty(place)
            raise UsageError(
                f"--cache {path}: not a cache of normcheck that can be used ({error})",
                "name another file, or delete this one if it is a cache: it can be made again",
            ) from error

    def _prepare(self) -> None:
        # Nothing that the file's own tables call upon is run.
        self._base.execute("PRAGMA trusted_schema = OFF")
        empty = not self._base.execute("PRAGMA schema_version").fetchone()[0]
        application = self._base.execute("PRAGMA application_id").fetchone()[0]
        layout = self._base.execute("PRAGMA user_version").fetchone()[0]
        if not empty and (application != _APPLICATION or layout > LAYOUT):
            raise sqlite3.DatabaseError("another program's database, or a later version's")
        if layout != LAYOUT:
            self._base.execute("BEGIN IMMEDIATE")
            # An earlier version's results are of no more use, as those of other rules.
            self._base.execute("DROP TABLE IF EXISTS results")
            self._base.execute(_TABLE)
            self._base.execute(f"PRAGMA application_id = {_APPLICATION}")
            self._base.execute(f"PRAGMA user_version = {LAYOUT}")
            self._base.execute("COMMIT")
        tables = self._base.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
        if tables != [("table", "results", _TABLE)]:
            raise sqlite3.DatabaseError("its tables are not those of a cache")
        # What other versions of the rules said is of no more use.
        self._base.execute("DELETE FROM results WHERE code != ?", (self._code,))

    def find(self, target: Target) -> FileResult | None:
        """What is known of a file that is what it was; None where it has to be read."""
        name = str(target.path)
        scope = self._scopes.of(target.path, explicit=target.explicit)
        row = None
        with contextlib.suppress(sqlite3.Error):
            row = self._base.execute(_SELECT, (scope, name, MOST_BYTES)).fetchone()
        if row is None or not self._ours(scope, name, row) or not self._same(name, *row[:2]):
            return None
        return result_of(name, *row[2:5])

    def _ours(self, scope: bytes, name: str, row: tuple[Any, ...]) -> bool:
        """Whether a row was written with the user's key, for this name, and is as it was."""
        stamps, digest, *pieces, seal = row
        blobs = (digest or b"", *pieces, seal)
        if not isinstance(stamps, str) or not all(isinstance(blob, bytes) for blob in blobs):
            return False
        return self._seal.is_of(seal, *sealed(scope, name, stamps, digest, pieces))

    def _same(self, name: str, stamps: str, digest: bytes | None) -> bool:
        files = Stamp.parsed(stamps)
        if files[0].file != name:
            return False
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
        pieces = pieces_of(result)
        if pieces is None:
            return
        scope = self._scopes.of(before.path, explicit=before.explicit)
        name, told = result.target, Stamp.joined(stamps)
        digest = digest_of(name, stamps[0].size) if len(stamps) == 1 else None
        seal = self._seal.of(*sealed(scope, name, told, digest, pieces))
        self._rows.append((scope, name, told, digest, *pieces, seal, self._code))
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
