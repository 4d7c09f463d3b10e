"""Each sample under statistics that were estimated without it: all of them, or of what is off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.measurement import Exchanged
from normcheck.live.scores.pooled_scores import expected_gain
from normcheck.live.scores.regime_comparison import calibrated_gain, changed_answers
from normcheck.live.watching.forward import RegimeOutputs
from normcheck.live.watching.input_moments import pooled

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import Tensor

    from normcheck.live.batches import Feed
    from normcheck.live.watching.regimes import DataStatistics, Regimes, Statistics
    from normcheck.live.watching.seen import CallSite


@lazy_dataclass(eq=False)
class Crossed:
    """All samples under statistics that were estimated without them."""

    residual: float
    """The larger one of the halves'."""
    outputs: tuple[RegimeOutputs, RegimeOutputs]
    """Of all samples in eval mode, and under statistics that were estimated without them."""
    settled: Tensor | None
    """Of all samples under re-estimated ones, in their order; None where their shapes differ."""
    of_halves: tuple[Statistics, Statistics]
    """What each half gave."""
    of_all: Statistics | None
    """Both put together; None where samples cannot be told apart at a norm."""


def exchanged(
    regimes: Regimes, feed: Feed, together: Feed, found: Crossed, off: Collection[CallSite]
) -> Exchanged | None:
    """What answers and scores gain where only the norms that are off get other statistics.

    Re-estimated statistics of few samples are noisy, and the noise costs answers, however wrong
    the stored ones were. Where only what is off is exchanged, all else stays: of a model that is
    sick in some of its norms the noise of these is left, and in a healthy one there are none.

    Args:
        regimes: Runs the model.
        feed: All of the data.
        together: The same in one batch where memory allows it.
        found: The samples under the statistics of all the others.
        off: Norms that lie provably and materially off.

    Returns:
        None where no norm is off, or the labels are not one class for each sample.
    """
    before = found.outputs[0].together()
    if not off or len(before.mains) != 1 or before.labels[0] is None:
        return None
    if found.of_halves[0].keys() <= set(off):
        after: RegimeOutputs | None = found.outputs[1].together()
    else:
        after = _partly(regimes, feed, together, found, off)
    if after is None or len(after.mains) != 1 or after.mains[0].shape != before.mains[0].shape:
        return None
    gain, t = expected_gain(before, after), calibrated_gain(before, after)
    healed, harmed = changed_answers(before, after)
    if gain is None or t is None or healed is None or harmed is None:
        return None
    return Exchanged(healed, harmed, t, gain)


def _partly(
    regimes: Regimes, feed: Feed, together: Feed, found: Crossed, off: Collection[CallSite]
) -> RegimeOutputs | None:
    """All samples, some norms with statistics that were estimated without them."""

    def of(statistics: Statistics) -> Statistics:
        return {place: pair for place, pair in statistics.items() if place in off}

    if found.of_all is not None:
        given = regimes.left_out(together, of(found.of_all))
        return None if given is None else given.together()
    outputs = RegimeOutputs([], [])
    for start, half in enumerate(feed.halves()):
        run = regimes.given(half, of(found.of_halves[1 - start]))
        outputs.mains += run.mains
        outputs.labels += run.labels
    return outputs.together()


def crossed(
    regimes: Regimes, feed: Feed, together: Feed, at_eval: RegimeOutputs, *, repeatable: bool
) -> Crossed:
    """Re-estimate each half, and judge each sample by the statistics of all the others.

    Where samples cannot be told apart at a norm, or have several shapes, each half is judged by
    the statistics of the other.

    Args:
        regimes: Runs the model.
        feed: All of the data.
        together: The same in one batch where memory allows it.
        at_eval: What eval mode gives for them.
        repeatable: Whether two forwards of the same batch are equal.
    """
    halves = feed.halves()
    found = [regimes.estimated(half, repeatable=repeatable) for half in halves]
    residual = max(e.residual for e in found)
    if feed.pooled() is not None and len(at_eval.mains) == 1:
        share = halves[0].samples / feed.samples
        both = found[0].statistics.keys() & found[1].statistics.keys()
        whole = {
            place: pooled(found[0].statistics[place], found[1].statistics[place], share)
            for place in found[0].statistics
            if place in both
        }
        if len(together.batches) > 1:
            # Each half's were taken behind norms with that half's own.
            whole = regimes.refined(together, whole)
        left_out = regimes.left_out(together, whole)
        given = None if left_out is None else left_out.together()
        if given is not None and [main.shape for main in given.mains] == [at_eval.mains[0].shape]:
            outputs = (at_eval, given)
            of_halves = found[0].statistics, found[1].statistics
            return Crossed(residual, outputs, given.mains[0], of_halves, whole)
    return _by_halves(regimes, feed, halves, found, at_eval)


def _by_halves(
    regimes: Regimes,
    feed: Feed,
    halves: tuple[Feed, Feed],
    found: list[DataStatistics],
    at_eval: RegimeOutputs,
) -> Crossed:
    """Each half under the statistics of the other."""
    stored, given = RegimeOutputs([], []), RegimeOutputs([], [])
    for start, half in enumerate(halves):
        rows = range(start, feed.samples, 2)
        # Without a loop over companions an output is its sample's own: it need not run again.
        known = at_eval.rows(rows) if sum(map(len, at_eval.mains)) == feed.samples else None
        for gathered, run in (
            (stored, known or regimes.stored(half)),
            (given, regimes.given(half, found[1 - start].statistics)),
        ):
            gathered.mains += run.mains
            gathered.labels += run.labels
    first = found[0].outputs or regimes.given(halves[0], found[0].statistics)
    middle = halves[0].samples
    second = given.rows(range(middle, feed.samples))
    return Crossed(
        residual=max(e.residual for e in found),
        outputs=(stored.together(), given.together()),
        settled=_alternating(first.together(), second),
        of_halves=(found[0].statistics, found[1].statistics),
        of_all=None,
    )


def _alternating(first: RegimeOutputs, second: RegimeOutputs | None) -> Tensor | None:
    """Outputs of every other sample and of the rest, in the order of the samples."""
    if second is None or len(first.mains) != 1:
        return None
    one, two = first.mains[0], second.mains[0]
    if one.shape[1:] != two.shape[1:] or len(one) - len(two) not in (0, 1):
        return None
    found = one.new_empty(len(one) + len(two), *one.shape[1:])
    found[::2], found[1::2] = one, two
    return found
