"""How many more answers would be right under other statistics, by both sets of scores together.

Answers that change are few, and who was right on each is a toss of a coin: a difference of three
points is lost among 256 samples. The scores tell more. The labels decide how much each set of
scores is to be believed (two numbers, learned from all samples); the probabilities that follow
say of each answer that changes how likely either side is right.
"""

from __future__ import annotations

import torch
from torch import Tensor

from normcheck.live.watching import outputs
from normcheck.live.watching.forward import RegimeOutputs

_STEPS = 25
"""Newton's steps; 5 to 9 are needed."""
_LONGEST = 1.0
"""Of a step, in weights of scores of unit scale: scores that separate the labels have no best
weights, and would run away."""
_MOST = 20.0
"""Largest weight."""
_SETTLED = 1e-6


def expected_gain(stored: RegimeOutputs, given: RegimeOutputs) -> float | None:
    """Share of all samples by which right answers become more under ``given``, as is expected.

    A multinomial logit whose scores are a weighted sum of both sets (as in a test of forecast
    encompassing: Harvey, Leybourne & Newbold, 1998) is fitted to the labels by maximum
    likelihood. Its probability of the answer under ``given``, less that of the answer under
    ``stored``, is averaged over the samples.

    Args:
        stored: Scores ``(N, C)`` and labels in eval mode.
        given: Of the same samples, under re-estimated statistics.

    Returns:
        None without one label of a class for each sample.
    """
    before, after = stored.together(), given.together()
    if len(before.mains) != 1 or len(after.mains) != 1 or before.labels[0] is None:
        return None
    labels = _classes(before.mains[0], before.labels[0])
    if labels is None or before.mains[0].shape != after.mains[0].shape:
        return None
    sets = [_unit(run.mains[0].double()) for run in (before, after)]
    scores = torch.stack(sets, dim=2)
    if not bool(scores.isfinite().all()):
        return None
    known = (labels >= 0) & (labels < scores.shape[1])
    weights = _fitted(scores[known], labels[known])
    probabilities = (scores @ weights).softmax(dim=1)
    old, new = (
        probabilities.gather(1, part.argmax(dim=1, keepdim=True)) for part in scores.unbind(2)
    )
    return float((new - old).mean())


def _classes(main: Tensor, labels: Tensor) -> Tensor | None:
    """The class of each sample, ``(N,)``; None where outputs are no scores of classes."""
    if main.ndim != 2 or main.shape[1] < 2:
        return None
    hot = outputs.as_classes(main, labels)
    labels = labels if hot is None else hot
    if labels.is_floating_point() or labels.numel() != len(main):
        return None
    return labels.reshape(-1).long()


def _unit(scores: Tensor) -> Tensor:
    """Scores about their mean, of unit mean square: softmax sees no offset, weights no scale."""
    centred = scores - scores.mean(dim=1, keepdim=True)
    return centred / centred.square().mean().sqrt().clamp_min(1e-12)


def _fitted(scores: Tensor, labels: Tensor) -> Tensor:
    """Weights of both sets under which the labels are most likely, by Newton's method.

    Args:
        scores: ``(N, C, 2)``.
        labels: ``(N,)``.
    """
    weights = torch.ones(2, dtype=torch.float64)
    wanted = torch.nn.functional.one_hot(labels, scores.shape[1])
    ridge = 1e-3 * torch.eye(2, dtype=torch.float64)
    for _ in range(_STEPS):
        p = (scores @ weights).softmax(dim=1)
        gradient = torch.einsum("nck,nc->k", scores, wanted - p)
        means = torch.einsum("nck,nc->nk", scores, p)
        curvature = torch.einsum("nck,ncl,nc->kl", scores, scores, p) - means.T @ means
        step = torch.linalg.solve(curvature + ridge, gradient)
        length = float(step.norm())
        if length != length:  # noqa: PLR0124  (NaN: the weights so far are the best there are)
            break
        weights = (weights + step * min(1.0, _LONGEST / max(length, 1e-12))).clamp(-_MOST, _MOST)
        if length < _SETTLED:
            break
    return weights
