"""How far a scan of many files is: a bar on stderr, where that is a terminal."""

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from normcheck.wording import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_SOON_SECONDS = 1.0
"""Who is done before that needs no bar."""
_REDRAW_SECONDS = 0.1


class Bar:
    """Files done of those that were found, their rate and the time left."""

    def __init__(self, targets: Sequence[str], *, shown: bool) -> None:
        """Start unseen.

        Args:
            targets: Words of the user, whose files are counted while the scan goes on.
            shown: Whether anybody looks.
        """
        self._targets = [str(target) for target in targets]
        self._shown = shown
        self._start = self._drawn = time.monotonic()
        self._done = 0
        self._found = 0
        self._counted = False
        self._samples = self._coming = 0
        self._step = ""
        self._bar: tuple[Progress, TaskID] | None = None
        self._said: set[str] = set()

    def files(self, done: int) -> None:
        """Note how many files are done."""
        self._done = done
        self._draw()

    def step(self, what: str, samples: int, coming: int = 0) -> None:
        """What is being done in a file, the samples that were run since, and those to come."""
        self._samples += samples
        self._coming += coming
        self._step = what + of_samples(self._samples, self._coming)
        self._draw()

    def announce(self, text: str) -> None:
        """Say what the user has to see whatever happens, once for all files that it is true of."""
        if text in self._said:
            return
        self._said.add(text)
        with self.away():
            sys.stderr.write(f"{printable(text)}\n")

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nothing is drawn while something else is written to the terminal."""
        if self._bar is not None:
            self._bar[0].stop()
        try:
            yield
        finally:
            if self._bar is not None:
                self._bar[0].start()

    def close(self) -> None:
        """Take the bar away."""
        bar, self._bar, self._shown = self._bar, None, False
        if bar is not None:
            bar[0].stop()

    def _draw(self) -> None:
        now = time.monotonic()
        if not self._shown or now - self._drawn < _REDRAW_SECONDS:
            return
        if now - self._start < _SOON_SECONDS and not self._step:
            return
        self._drawn = now
        if self._bar is None:
            threading.Thread(target=self._count, daemon=True).start()
            self._bar = _made()
            self._bar[0].start()
        bar, task = self._bar
        bar.update(
            task,
            description=printable(self._step),
            completed=self._done,
            # Until all are counted the end is not known, nor the time left.
            total=max(self._found, self._done) if self._counted else None,
        )
        bar.refresh()

    def _count(self) -> None:
        from normcheck.errors import NormcheckError
        from normcheck.formats.targets import expand_all

        if any("://" in target for target in self._targets):
            return  # to list what is far away would cost the scan's own requests again
        for target in self._targets:
            with suppress(NormcheckError, OSError):
                for _ in expand_all([target]):
                    self._found += 1
        self._counted = True


def of_samples(run: int, coming: int) -> str:
    """How many samples were run, of how many where that is known; nothing for none."""
    if not run:
        return ""
    return f" · {run:,} of {coming:,} samples" if coming >= run else f" · {run:,} samples"


def _made() -> "tuple[Progress, TaskID]":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class FileProgress(ProgressColumn):
        def render(self, task: Task) -> Text:
            total = f" of {task.total:,.0f}" if task.total is not None else ""
            rate = f" · {task.speed:,.1f}/s" if task.speed else ""
            return Text(f"{task.completed:,.0f}{total} files{rate}")

    bar = Progress(
        BarColumn(bar_width=24),
        FileProgress(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    return bar, bar.add_task("", total=None)


@contextmanager
def watched(targets: Sequence[str], *, quiet: bool) -> Iterator[Bar]:
    """A bar for as long as the scan goes on, where stderr is a terminal and not quiet."""
    bar = Bar(targets, shown=sys.stderr.isatty() and not quiet)
    try:
        yield bar
    finally:
        bar.close()
