"""Outputs under two regimes, compared: differences, decisions, answers."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from normcheck.live.batches import Feed
from normcheck.live.measurement import Decisiveness, Regime
from normcheck.live.watching import outputs
from normcheck.live.watching.regimes import Outputs

_FEWEST_CLASSES = 3
"""With two, the margin in deviations is the same for every sample."""


def regime(name: str, measured: Outputs, against: Outputs) -> Regime:
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


def _losses(measured: Outputs) -> Tensor | None:
    """The loss of each sample; None without labels that fit."""
    found = []
    for main, labels in zip(measured.mains, measured.labels, strict=True):
        loss = None if labels is None else outputs.loss(main, labels)
        if loss is None:
            return None
        found.append(loss)
    return torch.cat(found) if found else None


def _right(measured: Outputs) -> Tensor | None:
    """Whether each answer is right; None without labels that fit."""
    found = []
    for main, labels in zip(measured.mains, measured.labels, strict=True):
        right = None if labels is None else outputs.correct(main, labels)
        if right is None:
            return None
        found.append(right.flatten())
    return torch.cat(found) if found else None


def changed_answers(stored: Outputs, given: Outputs) -> tuple[int | None, int | None]:
    """Samples that are right only under ``given``, and only under ``stored``."""
    before, after = _right(stored), _right(given)
    if before is None or after is None or before.shape != after.shape:
        return None, None
    return int((~before & after).sum()), int((before & ~after).sum())


def loss_gain(stored: Outputs, given: Outputs) -> float | None:
    """Paired t of the loss that falls from ``stored`` to ``given``; None without a loss."""
    before, after = _losses(stored), _losses(given)
    if before is None or after is None or before.shape != after.shape or len(before) < 2:
        return None
    gain = before - after
    error = float(gain.std()) / len(gain) ** 0.5
    t = float(gain.mean()) / error if error > 0 else 0.0
    return t if np.isfinite(t) else None


def decisiveness(stored: Outputs, given: Outputs) -> Decisiveness | None:
    """Margins of the decisions of the same samples; None where outputs are not classes."""
    before, after = _margins(stored), _margins(given)
    if before is None or after is None or before.shape != after.shape or len(before) < 2:
        return None
    gain = after - before
    error = float(gain.std()) / len(gain) ** 0.5
    t = float(gain.mean()) / error if error > 0 else 0.0
    return Decisiveness(float(before.median()), float(after.median()), t)


def _margins(measured: Outputs) -> Tensor | None:
    """Difference of the best two scores of each sample, in deviations over its classes."""
    found = []
    for main in measured.mains:
        if main.ndim != 2 or main.shape[1] < _FEWEST_CLASSES:
            return None
        scores = main.double()
        best = scores.topk(2, dim=1).values
        found.append((best[:, 0] - best[:, 1]) / scores.std(dim=1).clamp_min(1e-12))
    margins = torch.cat(found) if found else torch.zeros(0)
    return margins if len(margins) and bool(margins.isfinite().all()) else None


def regrouped(feed: Feed) -> tuple[Feed, Tensor]:
    """The same samples among other companions, and the order in which they now come."""
    whole = feed.pooled()
    count = feed.samples
    stride = max(1, -(-count // feed.batch_size))
    order = [i for start in range(stride) for i in range(start, count, stride)]
    if whole is None:
        return feed, torch.arange(count)
    return replace(feed, batches=(whole.rows(order),)).rebatched(feed.batch_size), torch.tensor(
        order
    )


def effect(
    at_eval: Outputs, at_batch: Outputs, among_others: Outputs, order: Tensor
) -> float | None:
    """``|eval - batch| / |batch - batch'|``, the calibrated effect size.

    Args:
        at_eval: Outputs in eval mode.
        at_batch: With batch statistics.
        among_others: With batch statistics, among other companions.
        order: Which sample of the others each output of ``among_others`` belongs to.

    Returns:
        None where it cannot be told; healthy models have 0.3 to 1.5.
    """
    if not all(run.mains for run in (at_eval, at_batch, among_others)):
        return None
    if sum(map(len, among_others.mains)) != len(order):
        return None
    try:
        stored, batch = torch.cat(at_eval.mains).double(), torch.cat(at_batch.mains).double()
        other = torch.empty_like(batch)
        other[order] = torch.cat(among_others.mains).double()
    except RuntimeError:  # outputs of several lengths
        return None
    scatter, gap = float((batch - other).norm()), float((stored - batch).norm())
    return gap / scatter if scatter > 0 and np.isfinite(gap) else None
