"""What moved, in one line: the first thing that a reader of a comparison wants to know."""

from enum import StrEnum
from itertools import groupby

from normcheck.compare.exports.export_story import match_story, outputs_story
from normcheck.compare.movement import Comparison, Step, runs_of, short_names
from normcheck.compare.rounding import coarsest
from normcheck.norms.layer_numbers import median
from normcheck.saved.clocks import OPTIMIZER, Unit
from normcheck.saved.dtypes import BY_NAME
from normcheck.wording import number, percent, plural


class Motion(StrEnum):
    """What kind of step lies between two checkpoints."""

    NOTHING = "nothing moved"
    CONVERTED = "exact operations alone"
    TOGETHER = "weights and statistics moved"
    PARTLY = "weights moved, some statistics did"
    STATS_STILL = "weights moved, statistics did not"
    STATS_ALONE = "statistics moved, weights did not"
    RANKS = "same weights and counts, other statistics"
    NO_STATS = "weights moved, there are no statistics"


def motion(step: Step) -> Motion:
    """What kind of step this is."""
    tracked = step.tracked
    moved = [layer for layer in tracked if layer.stats_moved]
    if step.converted:
        return Motion.CONVERTED
    if not step.learned:
        if not moved:
            return Motion.NOTHING
        return Motion.RANKS if step.same_moment else Motion.STATS_ALONE
    if not tracked:
        return Motion.NO_STATS
    if not moved:
        return Motion.STATS_STILL
    return Motion.TOGETHER if len(moved) == len(tracked) else Motion.PARTLY


def story(comparison: Comparison) -> str:
    """One line on a comparison, a few more on a series that changes its nature on the way."""
    if comparison.match is not None:
        exported = any(side.exported for side in comparison.sides)
        holder = "The export" if exported else comparison.name(len(comparison.sides) - 1)
        return match_story(comparison.match, holder)
    if comparison.ranks:
        return _ranks(comparison)
    outputs = outputs_story(comparison.outputs, comparison.not_run)
    return f"{_told(comparison)}{_rounding(comparison)}{_one_sided(comparison)}.{outputs}"


def _told(comparison: Comparison) -> str:
    steps = comparison.steps
    if len(steps) == 1:
        told = _sentence(steps)
        unpaired = comparison.only_old or comparison.only_new
        return told.replace(_NO_NORMS, _NONE_PAIRED) if unpaired else told
    runs = [(kind, tuple(run)) for kind, run in groupby(steps, key=motion)]
    if len(runs) == 1:
        kind, run = runs[0]
        return f"Over {plural(len(steps), 'step')}: {_lower(_sentence(run))}{_trend(kind, run)}"
    parts = [f"{runs_of(comparison, run)}: {_lower(_sentence(run))}" for _, run in runs[:_MOST]]
    rest = len(runs) - _MOST
    more = f"; and {rest} more changes" if rest > 0 else ""
    return f"{'; '.join(parts)}{more}"


def _rounding(comparison: Comparison) -> str:
    """Why files that hold other bytes are called identical."""
    types = {BY_NAME[side.floating] for side in comparison.sides if side.floating in BY_NAME}
    if len(types) < 2 or any(motion(step) is not Motion.NOTHING for step in comparison.steps):
        return ""
    return f" within the rounding of {coarsest(types).name}"


def _one_sided(comparison: Comparison) -> str:
    """Statistics that one of the files has not, which is no movement and no health either."""
    alone = comparison.total.one_sided
    if not alone:
        return ""
    holder = comparison.name(0 if alone[0].has_statistics[0] else len(comparison.sides) - 1)
    return f"; {plural(len(alone), 'layer')} with running statistics in {holder} only"


_APART = 1.0
"""Of their length: independent weights of equal length lie 1.41 apart, those of one run mostly
less than 1."""
_SEVERAL = 10
"""Steps of an optimizer from which they are held against the batches that norms counted."""
_FEW = 5
_IN_ONE = 0.1
"""Of their length: how far weights move at most in one of a few batches of ordinary training."""
_MOST = 4
"""Stretches of a series that are told one by one."""


_NO_NORMS = "there are no norms"
_NONE_PAIRED = "no norm has a counterpart"


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _sentence(run: tuple[Step, ...]) -> str:
    """What happened in steps of one kind, without a full stop."""
    first = run[0]
    match motion(first):
        case Motion.NOTHING if not (first.tensors or first.layers):
            return "No tensor has a counterpart: numbers were not compared"
        case Motion.NOTHING:
            return f"Nothing moved: {_what_there_is(first)} are identical{_optimizer_only(run)}"
        case Motion.CONVERTED:
            return "Converted, not trained: each tensor that moved went through one exact operation"
        case Motion.TOGETHER:
            return _together(run)
        case Motion.PARTLY:
            return _partly(run)
        case Motion.STATS_STILL:
            since = "between these checkpoints training ran in eval mode, or the norms are frozen"
            return f"Weights moved, statistics did not: {since}"
        case Motion.STATS_ALONE:
            return f"Statistics moved, weights did not: {_why_alone(run)}"
        case Motion.RANKS:
            return (
                "Same weights and batch counts, other statistics: these look like ranks that do "
                "not share their statistics"
            )
        case Motion.NO_STATS:
            outside = first.weights is None or first.weights.moved
            moved = (
                f"Weights moved{_by(run)}" if outside else "γ and β moved, other weights did not"
            )
            return f"{moved}; {_without_statistics(first)}"


def _together(run: tuple[Step, ...]) -> str:
    lost = sum(layer.at_initial_values == (False, True) for layer in run[0].tracked)
    if lost:
        return f"Weights moved, and {plural(lost, 'layer')} had statistics put back to 0 and 1"
    moved = f"Weights and statistics moved together{_batches(run)}"
    if any((step.batches or 0) < 0 for step in run):
        return moved
    weights = run[0].weights
    if len(run) == 1 and weights is not None and weights.distance >= _APART:
        return (
            f"{moved}; weights by {percent(weights.distance)} of their length, as far as those of "
            "models trained apart"
        )
    made = sum(step.steps_made or 0 for step in run)
    counted = sum(step.batches or 0 for step in run)
    if made >= _SEVERAL and 0 < counted < made / 2:
        return f"{moved}, while {number(made)} {_what_made(run)}: mostly trained in eval mode"
    if weights is not None and 0 < counted <= _FEW and weights.distance > counted * _IN_ONE:
        return (
            f"{moved}, but weights by {percent(weights.distance)} of their length: more than so "
            "few batches train them; the rest was made in eval mode, averaged or loaded"
        )
    return f"{moved}, as in training"


def _what_made(run: tuple[Step, ...]) -> str:
    """What the clock of a file counted, in the past."""
    unit = run[0].clock.unit if run[0].clock is not None else Unit.STEPS
    if unit is Unit.BATCHES:
        return "batches were trained on"
    return "steps or epochs were made" if unit is Unit.AT_LEAST else "steps were made"


def _without_statistics(step: Step) -> str:
    if not step.layers:
        return _NO_NORMS
    return "these norms keep no statistics that could fall behind"


def _what_there_is(step: Step) -> str:
    parts = ["weights"] if step.weights is not None else []
    if any(layer.affine is not None for layer in step.layers):
        parts.append("γ and β")
    if step.tracked:
        parts.append("statistics")
    return ", ".join(parts) or "the tensors that could be compared"


def _optimizer_only(run: tuple[Step, ...]) -> str:
    made = sum(step.steps_made or 0 for step in run)
    clock = run[0].clock
    who = "the optimizer" if clock is None or clock.name == OPTIMIZER else "the training loop"
    return f", though {who} counted {plural(made, 'step')} more" if made > 0 else ""


def _batches(run: tuple[Step, ...]) -> str:
    counted = [step.batches for step in run]
    if any(n is None for n in counted):
        return ""
    total = sum(n or 0 for n in counted)
    return f" over {number(total)} {'batch' if total == 1 else 'batches'}" if total > 0 else ""


def _by(run: tuple[Step, ...]) -> str:
    if len(run) > 1 or run[0].weights is None:
        return ""
    return f" by {percent(run[0].weights.distance)} of their length"


def _partly(run: tuple[Step, ...]) -> str:
    step = run[0]
    still = [layer for layer in step.tracked if not layer.stats_moved]
    frozen = [layer for layer in still if layer.learned is False]
    count, tracked = len(step.tracked) - len(still), len(step.tracked)
    if any(layer.at_initial_values == (False, True) for layer in step.tracked):
        return _together(run)
    if len(frozen) == len(still):
        return (
            f"Weights and statistics moved in {count} of {plural(tracked, 'layer')}; in the other "
            f"{len(frozen)} neither did: a frozen part"
        )
    return f"Weights moved, statistics in {count} of {plural(tracked, 'layer')} only"


def _why_alone(run: tuple[Step, ...]) -> str:
    layers = [layer for step in run for layer in step.tracked if layer.stats_moved]
    initial = {layer.at_initial_values for layer in layers}
    if initial == {(False, True)}:
        return "they were lost, and are back at 0 and 1"
    if initial == {(True, False)}:
        return "they were 0 and 1, and have been collected since"
    counted = [step.batches for step in run]
    if all(n is not None and n > 0 for n in counted):
        passed = f"{number(sum(n or 0 for n in counted))} batches passed in train mode"
        return f"{passed} and nothing was learned from them"
    return "they were re-estimated, replaced, or moved by passes in train mode"


def _trend(kind: Motion, run: tuple[Step, ...]) -> str:
    """How the size of the steps developed, for a series of one kind."""
    if kind not in (Motion.TOGETHER, Motion.NO_STATS, Motion.STATS_STILL):
        return ""
    weights = [step.weights.distance for step in run if step.weights is not None]
    parts = []
    if len(weights) == len(run):
        first, last = percent(weights[0]), percent(weights[-1])
        parts.append(f"weights by {first} in the first step and {last} in the last")
    shifts = [_shift(step) for step in (run[0], run[-1])]
    if kind is Motion.TOGETHER:
        parts.append(f"means by {number(shifts[0])} and {number(shifts[1])} standard deviations")
    return f"; {', '.join(parts)}" if parts else ""


def _shift(step: Step) -> float:
    shifts = [layer.mean.distance for layer in step.tracked if layer.mean is not None]
    return median(shifts) if shifts else 0.0


def _ranks(comparison: Comparison) -> str:
    count = plural(len(comparison.sides), "rank")
    if any(step.steps_made or step.batches for step in comparison.steps):
        return f"{count} that are not of one step: their counts differ."
    names = short_names(comparison.sides)
    if any(step.learned for step in comparison.steps):
        others = [names[step.new] for step in comparison.steps if step.learned]
        return f"Ranks hold different weights: {names[0]} against {', '.join(others[:4])}."
    if any(step.stats_moved for step in comparison.steps):
        return f"{count} hold the same weights and other statistics: they do not share them."
    return f"{count} hold the same weights and the same statistics."
