"""The one way in which something is written, whatever it is and wherever it goes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from normcheck.writing.destination import Destination, Kind, destination_of
from normcheck.writing.special_files import Announce, standing, to_nobody
from normcheck.writing.streams import Out, StdOut
from normcheck.writing.write_errors import told

if TYPE_CHECKING:
    from normcheck.writing.atomic_file import Check

_PIECE = 1 << 22


@contextmanager
def written(
    place: Destination,
    *,
    new: bool = False,
    like: os.stat_result | None = None,
    check: Check | None = None,
    backup: Path | None = None,
    announce: Announce = to_nobody,
) -> Iterator[Out]:
    """Open what is to be written, and give it what is written in the block.

    A regular file is there when the block has ended without an error, and not before. Into all
    else each piece goes at once; with ``check``, once all is written and looked at.

    Args:
        place: Where, see ``destination_of``.
        new: Whether a regular file that is there is an error.
        like: Whose permission bits a new regular file gets, as far as the umask allows.
        check: Looks at the finished file before anybody else can; raises to forbid it.
        backup: A name under which the regular file that is replaced stays.
        announce: Told what a user has to know while it waits.

    Raises:
        UsageError: It cannot be written.
    """
    opened: AbstractContextManager[Out]
    if place.replaced:
        from normcheck.writing.atomic_file import whole  # most reports go to stdout

        opened = whole(place, new=new, like=like, check=check, backup=backup)
    else:
        opened = nullcontext(StdOut()) if place.kind is Kind.STDOUT else standing(place, announce)
        if check is not None:
            opened = _looked_at(opened, check)
    with opened as out:
        try:
            yield out
        except Exception as error:
            # A library that was given ``out`` tells of a full disk in words of its own.
            if out.failure is not None and error is not out.failure:
                raise out.failure from error
            raise


@contextmanager
def _looked_at(opened: AbstractContextManager[Out], check: Check) -> Iterator[Out]:
    """Through a temporary file: what has gone into a pipe cannot be called back."""
    from tempfile import TemporaryDirectory

    with opened as out:
        with told("a temporary folder (TMPDIR names another)"):
            folder = TemporaryDirectory(prefix="normcheck-")
        with folder as name:
            copy = Path(name) / "copy"
            from normcheck.writing.atomic_file import whole

            with whole(destination_of(copy), check=check) as inner:
                yield inner
            with copy.open("rb") as file:
                while piece := file.read(_PIECE):
                    out.write(piece)
