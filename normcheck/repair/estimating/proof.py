"""Whether re-estimated statistics help: each sample is judged by those of all the others."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.measurement import AgainstData, Regime
from normcheck.live.misfit import InputMap, OtherCode
from normcheck.live.scores.against_constant import skill
from normcheck.live.scores.pooled_scores import expected_gain
from normcheck.live.scores.regime_comparison import (
    answers,
    calibrated_gain,
    changed_answers,
    decisiveness,
    loss_gain,
    regime,
)
from normcheck.live.watching.forward import RegimeOutputs
from normcheck.repair.estimating.data_stream import BatchStream
from normcheck.repair.estimating.estimate import Estimate, Estimator
from normcheck.repair.repair_result import Proof
from normcheck.rules.data.meant_input import as_formula, as_if, believed, is_far
from normcheck.rules.data_verdict import Verdict, judged
from normcheck.rules.evidence.initial_stats import FIX_TRAINED
from normcheck.rules.harm import Harm
from normcheck.rules.harm_without_labels import CLEARER
from normcheck.wording import number, percent, plural

FEWEST_SAMPLES = 32
"""Samples from which statistics are estimated, and by which they are judged, at least. A mean of
32 independent values is known to a fifth of its deviation; a running average over batches of 32
is no better."""
JUDGES = 4000
"""Most samples whose outputs are compared; they are held in memory."""
UNSETTLED = 0.1
"""Residual, in standard deviations, from which an estimate is no estimate."""
_SAME = 0.01
"""Relative difference of outputs that needs no judge."""


@lazy_dataclass(eq=False)
class Meant:
    """What the stored statistics fit, where it is not what they are given."""

    trained: str = ""
    """What the file shows of weights that were trained with 0 and 1, in words."""
    code: OtherCode | None = None
    input: InputMap | None = None


@lazy_dataclass(eq=False)
class Judged:
    """The proof, and what speaks against writing."""

    proof: Proof
    objections: tuple[str, ...]
    untold: bool = False
    """Whether the objection is only that nobody could tell."""


def crossed(
    estimator: Estimator, estimate: Estimate, data: BatchStream
) -> tuple[RegimeOutputs, RegimeOutputs, str]:
    """Outputs with the stored statistics, and with those of samples that are not judged.

    Each sample is predicted with the statistics of all the others, as in a scan. Where samples
    cannot be told apart at a norm, each half is predicted with the statistics of the other.

    Args:
        estimator: Runs the model.
        estimate: Of all the data.
        data: All of it.

    Returns:
        The outputs before and after, and what judged, in words.
    """
    step = max(1, -(-estimate.samples // JUDGES))
    left_out = estimator.left_out(data.thinned(step), estimate.statistics, estimate.samples)
    if left_out is not None:
        return estimator.outputs(data.thinned(step)), left_out, "statistics of all other samples"
    before, after = RegimeOutputs([], []), RegimeOutputs([], [])
    for half in (0, 1):
        # Python binds late: the half is an argument, not a variable of the loop.
        by = estimator.estimated(lambda half=half: data.every_other(half))  # type: ignore[misc]
        for gathered, given in ((before, None), (after, by.statistics)):
            run = estimator.outputs(data.every_other(1 - half, step), given)
            gathered.mains += run.mains
            gathered.labels += run.labels
    return before, after, "statistics of the other half"


def held_out(
    estimator: Estimator, estimate: Estimate, holdout: BatchStream, samples: int
) -> tuple[RegimeOutputs, RegimeOutputs]:
    """Outputs of other data with the stored statistics, and with those estimated."""
    step = max(1, -(-samples // JUDGES))
    before = estimator.outputs(holdout.thinned(step))
    return before, estimator.outputs(holdout.thinned(step), estimate.statistics)


def judge(
    outputs: tuple[RegimeOutputs, RegimeOutputs],
    estimate: Estimate,
    judged_by: str,
    *,
    initial: bool,
    meant: Meant | None = None,
) -> Judged:
    """What the outputs say, and whether anything speaks against the new statistics.

    Args:
        outputs: Before and after.
        estimate: What is to be written.
        judged_by: Which samples judged, in words.
        initial: Whether stored statistics are exactly 0 and 1.
        meant: What the stored statistics fit, where that is other code or input than is given.
    """
    before, after = outputs
    stored, given = regime("eval", before, before), regime("re-estimated", after, before)
    healed, harmed = changed_answers(before, after)
    found = judged(
        AgainstData(
            drifts=(), regimes=(stored, given), effect=None, healed=healed,
            harmed=harmed, train_healed=None, train_harmed=None, loss_t=loss_gain(before, after),
            decisiveness=decisiveness(before, after), closings=(), noise=(),
            residual=estimate.residual, domains=None, answers=answers(before),
            given_answers=answers(after), calibrated_t=calibrated_gain(before, after),
            skill=skill(before), given_skill=skill(after),
            expected_gain=expected_gain(before, after),
        )
    )  # fmt: skip
    meant = meant or Meant()
    objections = _against(
        found, (stored, given), loss_gain(before, after), initial=initial, trained=meant.trained
    )
    objections += _too_little(estimate, given.samples)
    objections += _of_others(meant, (healed, harmed), given.samples)
    proof = Proof(
        replace(stored, name="before"), replace(given, name="after"), found.text, judged_by
    )
    return Judged(proof, tuple(objections), found.harm is Harm.UNKNOWN and not meant.trained)


def _of_others(meant: Meant, changed: tuple[int | None, int | None], samples: int) -> Iterator[str]:
    """Objections where the statistics are right, and code or input are others than in training.

    Args:
        meant: What they fit.
        changed: Labelled answers that new statistics heal, and that they harm.
        samples: Of how many.
    """
    if meant.code is not None:
        yield (
            "the stored statistics fit another function than this code computes "
            f"({meant.code.words}): correct the code first, re-estimating would only hide it"
        )
    if meant.input is None:
        return
    # As many as there would be among the samples by which the input was looked at.
    part = min(1.0, meant.input.samples / max(samples, 1))
    healed, harmed = (None if count is None else round(part * count) for count in changed)
    found = believed(meant.input, (healed, harmed))
    if found is not None and is_far(found):
        fit = "all norms fit their" if found.fits else "the first norm fits its"
        yield (
            f"with the input {as_formula(found)} {fit} stored statistics, {as_if(found)}: correct "
            "the preprocessing first, re-estimating would fit the model to another input"
        )


def _against(
    found: Verdict,
    regimes: tuple[Regime, Regime],
    gain: float | None,
    *,
    initial: bool,
    trained: str,
) -> list[str]:
    stored, given = regimes
    measured = given.accuracy is not None or given.loss is not None
    if trained and not measured:
        # Without labels the outputs tell less than the file does.
        return [f"{trained}, as the file shows: {FIX_TRAINED}"]
    if found.harm is Harm.STORED_RIGHT:
        why = (
            "the weights were trained with the stored statistics"
            if measured
            else "the model decides more clearly with the stored statistics: it seems that the "
            "weights were trained with them"
        )
        why += (
            ", 0 and 1: in eval mode throughout, or with frozen norms"
            if initial
            else ", or the data are not like those of the training"
        )
        if measured:
            why += "; with new ones the model predicts worse"
        return [f"{why}. {FIX_TRAINED[0].upper()}{FIX_TRAINED[1:]}" if initial else why]
    if found.both_guess:
        why = (
            "with the stored statistics and with new ones the model answers no better than "
            "guessing: neither is right by it"
        )
        return [f"{why}. If it was trained in eval mode, {FIX_TRAINED}" if initial else why]
    if given.accuracy is not None and stored.accuracy is not None:
        if given.accuracy < stored.accuracy:
            return [
                f"accuracy would fall from {percent(stored.accuracy)} to {percent(given.accuracy)}"
            ]
        if given.accuracy == stored.accuracy and (gain or 0.0) < -CLEARER:
            return [_loss_rises(stored, given)]
        return []
    if given.loss is not None and stored.loss is not None:
        # Not a number is what it was, and a number is better.
        return [_loss_rises(stored, given)] if given.loss > stored.loss else []
    changes = not np.isfinite(given.difference) or given.difference > _SAME
    if found.harm is Harm.UNKNOWN or (
        changes and not measured and found.harm is not Harm.HINTED and given.flips != 0
    ):
        return [
            "outputs change, and nothing tells which statistics are right: give data with labels"
        ]
    return []


def _loss_rises(stored: Regime, given: Regime) -> str:
    return f"the loss would rise from {number(stored.loss or 0.0)} to {number(given.loss or 0.0)}"


def _too_little(estimate: Estimate, judges: int) -> list[str]:
    found, fewest = [], min(estimate.samples, judges)
    if fewest < FEWEST_SAMPLES:
        found.append(
            f"{plural(fewest, 'sample')} {'is' if fewest == 1 else 'are'} too few to estimate from "
            f"and to judge by: give at least {FEWEST_SAMPLES}"
        )
    if estimate.residual > UNSETTLED:
        found.append(
            f"the statistics do not reproduce themselves: after {plural(estimate.rounds, 'pass')} "
            f"one more still moves a channel by {number(estimate.residual)} standard deviations"
        )
    return found
