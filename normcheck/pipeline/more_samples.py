"""A second run with more of the user's samples, where the first leaves open what statistics do.

256 labelled samples show a loss of five points of accuracy for sure, and one of two or three half
of the time. Most models lose nothing, which they show as well; so few of their scans take more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from normcheck.errors import NormcheckError
from normcheck.live.run_request import TOP
from normcheck.wording import plural

if TYPE_CHECKING:
    from collections.abc import Callable

    from normcheck.live.measurement import Run
    from normcheck.live.process.run_outcome import Outcome
    from normcheck.live.run_request import Running


def ran_until_told(run: Callable[[Running], list[Outcome]], how: Running) -> list[Outcome]:
    """What became of each model, with more samples where the first ones leave its verdict open.

    Args:
        run: Runs the models of a file.
        how: As the user wants it.
    """
    first = run(how)
    feeding = how.feeding
    if feeding.more_samples <= feeding.samples or isinstance(feeding.data, Iterator):
        return first  # of an iterator, what was taken is gone
    # Where there were fewer than wanted there are no more.
    untold = [o.run is not None and _is_open(o.run, feeding.samples) for o in first]
    if not any(untold):
        return first
    how.announce(
        f"{feeding.samples} samples leave open what statistics cost: {feeding.more_samples:,} tried"
    )
    places = tuple(
        o.anatomy.where or TOP for o, is_untold in zip(first, untold, strict=True) if is_untold
    )
    again = replace(
        how,
        feeding=replace(feeding, samples=feeding.more_samples),
        loading=replace(how.loading, where=places),
        announce=_said_already,
    )
    try:
        second = run(again)
    except (NormcheckError, MemoryError) as error:
        failed = error if isinstance(error, NormcheckError) else NormcheckError("not enough memory")
        second = [replace(outcome, run=None, error=failed) for outcome in first]
    return [
        _later(before, after) if was_open else before
        for was_open, before, after in zip(untold, first, second, strict=True)
    ]


def _said_already(_text: str) -> None:
    """What of the file's code runs was announced for the first run."""


def _is_open(run: Run, wanted: int) -> bool:
    """Whether all samples that were wanted were taken and leave the verdict open."""
    from normcheck.rules.data_verdict import verdict  # most scans run nothing
    from normcheck.rules.harm import Harm

    if run.fed.samples < wanted or not run.fed.labelled:
        return False
    judged = verdict(run)
    return judged is not None and judged.harm is Harm.OPEN


def _later(before: Outcome, after: Outcome) -> Outcome:
    """The run with more samples, with what both took; the first where there were no more."""
    first, second = before.run, after.run
    if first is None:
        return before
    if second is None or second.against_data is None:
        if after.error is None:
            return before
        note = f"more samples were not run: {after.error.message}"
        return replace(before, run=replace(first, notes=(*first.notes, note)))
    if second.fed.samples <= first.fed.samples:
        return before
    note = (
        f"{plural(first.fed.samples, 'sample')} left open what the statistics cost: more were taken"
    )
    run = replace(
        second,
        forwards=first.forwards + second.forwards,
        seconds=first.seconds + second.seconds,
        notes=(*second.notes, note),
    )
    return replace(after, run=run)
