"""Outputs under two regimes, compared: differences, decisions, answers."""

from collections.abc import Sequence
from math import exp, inf, log

import numpy as np
import torch
from torch import Tensor

from normcheck.live.hits import ONE_SIDED, Answers
from normcheck.live.measurement import Decisiveness, Regime
from normcheck.live.watching import outputs
from normcheck.live.watching.forward import RegimeOutputs

_FEWEST_CLASSES = 3
"""With two, the margin in deviations is the same for every sample, and any input is decided."""
_CLIP = 2.0
"""Nats at which the difference of one sample's losses is cut: a few samples that are wrong with
great confidence would otherwise decide alone."""
_COLDEST = 4.0
"""Logarithm of the temperatures among which the best one is looked for, both ways: scores of a
model that was fed raw pixels can be fifty times too large."""
_GOLDEN = (5**0.5 - 1) / 2
_SECTIONS = 16
"""Of the interval; what is left of it is less than 0.4 %."""
_TO_CALIBRATE = 1 << 20
"""Scores by which a temperature is chosen; of larger outputs every so many samples."""
_CLIP_SCALE = 5.0
"""The same for squared errors, in medians of the differences."""


def regime(name: str, measured: RegimeOutputs, against: RegimeOutputs) -> Regime:
    """What one way of normalising gives.

    Args:
        name: Of the regime.
        measured: Its outputs.
        against: The outputs of the same samples in eval mode.
    """
    samples = sum(len(main) for main in measured.mains)
    right = _right(measured)
    losses = _losses(measured)
    return Regime(
        name=name,
        difference=difference(measured.mains, against.mains),
        flips=outputs.flips(measured.mains, against.mains) if name != "eval" else 0.0,
        accuracy=float(right.double().mean()) if right is not None else None,
        loss=None if losses is None else float(losses.mean()),
        samples=samples,
    )


def difference(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """``|first - second| / |second|`` over all batches; NaN where they cannot be compared."""
    if not first or len(first) != len(second):
        return float("nan")
    if any(a.shape != b.shape for a, b in zip(first, second, strict=True)):
        return float("nan")
    return outputs.relative(
        torch.cat([a.double().flatten() for a in first]),
        torch.cat([b.double().flatten() for b in second]),
    )


def _losses(measured: RegimeOutputs) -> Tensor | None:
    """The loss of each sample; None without labels that fit."""
    found = []
    for main, labels in zip(measured.mains, measured.labels, strict=True):
        loss = None if labels is None else outputs.loss(main, labels)
        if loss is None:
            return None
        found.append(loss)
    return torch.cat(found) if found else None


def _right(measured: RegimeOutputs) -> Tensor | None:
    """Whether each sample's answer is right, as a share where it has several.

    The sample is the unit: the pixels of one image are not independent. None without labels
    that fit.
    """
    found = []
    for main, labels in zip(measured.mains, measured.labels, strict=True):
        right = None if labels is None else outputs.correct(main, labels)
        if right is None:
            return None
        found.append(right.reshape(len(right), -1).double().mean(dim=1))
    return torch.cat(found) if found else None


def changed_answers(stored: RegimeOutputs, given: RegimeOutputs) -> tuple[int | None, int | None]:
    """Samples that are answered better under ``given``, and better under ``stored``."""
    before, after = _right(stored), _right(given)
    if before is None or after is None or before.shape != after.shape:
        return None, None
    return int((before < after).sum()), int((before > after).sum())


def answers(measured: RegimeOutputs) -> Answers | None:
    """Right answers, and those that guessing would give; None without one label a sample."""
    decided: list[Tensor] = []
    wanted: list[Tensor] = []
    right, classes = 0, 2
    for main, labels in zip(measured.mains, measured.labels, strict=True):
        found = None if labels is None else outputs.correct(main, labels)
        pair = None if labels is None else outputs.decided(main, labels)
        if found is None or pair is None or pair[0].numel() != len(main):
            return None
        right += int(found.sum())
        classes = max(classes, main.shape[1] if main.ndim == 2 else 2)
        decided.append(pair[0].reshape(-1))
        wanted.append(pair[1].reshape(-1))
    if not decided:
        return None
    answered, expected = torch.cat(decided), torch.cat(wanted)
    present = {c: float((expected == c).double().mean()) for c in sorted(set(expected.tolist()))}
    dealt = sum(float((answered == c).double().mean()) * share for c, share in present.items())
    # Of labels that are nearly all the same, the model's own answers hit as many in any order.
    largest = max(present.values())
    guessed = dealt if largest <= ONE_SIDED else 0.0
    return Answers(right, len(answered), max(guessed, 1 / classes), classes, largest)


def loss_gain(stored: RegimeOutputs, given: RegimeOutputs) -> float | None:
    """Paired t of the loss that falls from ``stored`` to ``given``; None without a loss."""
    of_numbers = any(
        label is not None and outputs.are_numbers(main, label)
        for main, label in zip(stored.mains, stored.labels, strict=True)
    )
    return _gained(_losses(stored), _losses(given), of_numbers=of_numbers)


def calibrated_gain(stored: RegimeOutputs, given: RegimeOutputs) -> float | None:
    """The same where scores are as sure as they should be: what is left is who is right.

    Each set of scores is divided by the one temperature under which its loss is least (Guo et
    al., On Calibration of Modern Neural Networks, 2017). Statistics that are off make all scores
    larger or smaller, which moves the loss of every sample and no answer; of harmless networks
    the plain t reaches 8 by it, this one 4.1.

    Returns:
        None without labels of classes.
    """
    return _gained(_losses(_calibrated(stored)), _losses(_calibrated(given)), of_numbers=False)


def _gained(before: Tensor | None, after: Tensor | None, *, of_numbers: bool) -> float | None:
    if before is None or after is None or before.shape != after.shape or len(before) < 2:
        return None
    # Infinite against infinite is no difference; against a number it is the largest.
    gain = torch.nan_to_num(before, nan=torch.inf) - torch.nan_to_num(after, nan=torch.inf)
    gain = gain.nan_to_num(nan=0.0)
    clip = _CLIP_SCALE * float(gain.abs().median()) if of_numbers else _CLIP
    gain = gain.clamp(-clip, clip) if clip > 0 else gain
    error = float(gain.std()) / len(gain) ** 0.5
    # All samples gain the same, clipped: as sure as it gets.
    t = float(gain.mean()) / error if error > 0 else float(gain.mean().sign()) * len(gain)
    return t if np.isfinite(t) else None


def _calibrated(measured: RegimeOutputs) -> RegimeOutputs:
    """The scores at the temperature that suits the labels best; without outputs if none does."""
    nothing, measured = RegimeOutputs([], []), measured.together()
    if len(measured.mains) != 1 or measured.labels[0] is None:
        return nothing
    main, labels = measured.mains[0].double(), measured.labels[0]
    one_column = main.numel() == labels.numel()
    if one_column or outputs.are_numbers(main, labels) or not bool(main.isfinite().all()):
        return nothing
    step = max(1, main.numel() // _TO_CALIBRATE)
    few, of_few = main[::step], labels[::step]

    def at(logarithm: float) -> float:
        loss = outputs.loss(few * exp(-logarithm), of_few)
        return inf if loss is None else float(loss.mean())

    # The loss is convex in 1/T, so it has one minimum in log T as well (golden section).
    low, high = -_COLDEST, _COLDEST
    for _ in range(_SECTIONS):
        span = _GOLDEN * (high - low)
        if at(high - span) <= at(low + span):
            high = low + span
        else:
            low = high - span
    if at((low + high) / 2) == inf:
        return nothing
    return RegimeOutputs([main * exp(-(low + high) / 2)], [labels])


def decisiveness(stored: RegimeOutputs, given: RegimeOutputs) -> Decisiveness | None:
    """Margins of the decisions of the same samples; None where outputs are not classes."""
    before, after = _scores(stored), _scores(given)
    if before is None or after is None or before.shape != after.shape or len(before) < 2:
        return None
    if before.shape[1] < _FEWEST_CLASSES:
        return None
    margins = [_margin(scores) for scores in (before, after)]
    relative = [
        margin / scores.std(dim=1).clamp_min(1e-12)
        for margin, scores in zip(margins, (before, after), strict=True)
    ]
    entropies = [_entropy(scores) for scores in (before, after)]
    return Decisiveness(
        float(relative[0].median()),
        float(relative[1].median()),
        paired_t(relative[1] - relative[0]),
        paired_t(margins[1] - margins[0]),
        paired_t((entropies[0] - entropies[1]).clamp(-_CLIP, _CLIP)),
        float(entropies[1].mean()) / log(before.shape[1]),
    )


def _scores(measured: RegimeOutputs) -> Tensor | None:
    """Scores of classes, ``(N, C)``; None where the outputs are something else."""
    if not measured.mains or any(m.ndim != 2 or m.shape[1] < 2 for m in measured.mains):
        return None
    try:
        scores = torch.cat([main.double() for main in measured.mains])
    except RuntimeError:  # of several lengths
        return None
    return scores if len(scores) and bool(scores.isfinite().all()) else None


def _margin(scores: Tensor) -> Tensor:
    best = scores.topk(2, dim=1).values
    return best[:, 0] - best[:, 1]


def _entropy(scores: Tensor) -> Tensor:
    logarithms = scores.log_softmax(dim=1)
    return -(logarithms.exp() * logarithms).sum(dim=1)


def paired_t(differences: Tensor) -> float:
    """Mean over its standard error; 0 where nothing differs."""
    error = float(differences.std()) / len(differences) ** 0.5
    return float(differences.mean()) / error if error > 0 else 0.0


def effect(stored: Tensor, batch: Tensor, among_others: Tensor) -> float | None:
    """``|eval - batch| / |batch - batch'|``, the calibrated effect size.

    Args:
        stored: Outputs in eval mode.
        batch: Of the same samples, with batch statistics.
        among_others: With batch statistics, among other companions.

    Returns:
        None where it cannot be told; healthy models have 0.3 to 1.5.
    """
    if not stored.shape == batch.shape == among_others.shape:
        return None
    middle = batch.double()
    scatter = float((middle - among_others.double()).norm())
    gap = float((stored.double() - middle).norm())
    return gap / scatter if scatter > 0 and np.isfinite(gap) else None
