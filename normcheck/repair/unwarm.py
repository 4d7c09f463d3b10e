"""The initial value taken out of under-warmed statistics, without data.

After n updates with momentum m a running statistic is ``(1 - r) s + r s0`` with
``r = (1 - m)^n``, s0 = 0 for the mean and 1 for the variance, and s what the batches gave. Where
count and momentum describe the statistics, s can be had exactly.
"""

from collections.abc import Iterator

import numpy as np

from normcheck.errors import NormcheckError
from normcheck.norms.find_norms import anatomy_of
from normcheck.norms.layer import Momentum, NormLayer
from normcheck.repair.repair_result import TensorEdit
from normcheck.rules.rule import count_is_trusted
from normcheck.saved.checkpoint import SavedModel
from normcheck.wording import fold, percent, plural

_LEFT = 1e-6
"""Residue below which nothing is worth changing: float32 would round it away."""


def unwarmed(saved: SavedModel, momentum: float | None) -> tuple[list[TensorEdit], str]:
    """New statistics for all layers in which part of the initial value is left.

    Args:
        saved: The model.
        momentum: As the user knows it, for files that do not hold it.

    Returns:
        The changes, and what was done in words.

    Raises:
        NormcheckError: Count or momentum are not known, or do not describe the statistics.
    """
    layers = [
        layer for layer in anatomy_of(saved, judge_links=False).layers if layer.has_statistics
    ]
    cold = [(layer, r) for layer in layers if (r := _residue(layer, momentum)) > _LEFT]
    if not cold:
        raise NormcheckError(
            "--unwarm: no layer has a part of its initial value left, by its batch count",
            "statistics at 0 and 1 hold nothing that could be recovered: re-estimate with --data",
        )
    if momentum is None and not count_is_trusted(layers):
        raise _not_described()
    changes: list[TensorEdit] = []
    for layer, r in cold:
        changes.extend(_changes(saved, layer, r))
    worst = max(r for _, r in cold)
    return changes, (
        f"the initial value taken out of {plural(len(cold), 'layer')} "
        f"({fold([layer.path for layer, _ in cold])}): up to {percent(worst)} of it was left; "
        "batch counts set to 0, as they described the statistics before"
    )


def _residue(layer: NormLayer, given: float | None) -> float:
    """Share of the initial value that is left; 0 where none is, or the layer has no count."""
    # A library's default may have been changed: what was given counts before it.
    own = None if layer.momentum_of else layer.momentum
    momentum = own if own is not None else given
    if layer.batches is None or not layer.batches.whole or layer.batches.value == 0:
        return 0.0
    if layer.at_initial_values or isinstance(momentum, Momentum):
        return 0.0
    if momentum is None:
        raise NormcheckError(
            "--unwarm: the file does not hold the momentum of its layers",
            "give it: --momentum 0.1 is torch's default",
        )
    return float((1 - momentum) ** layer.batches.value) if 0 < momentum < 1 else 0.0


def _changes(saved: SavedModel, layer: NormLayer, r: float) -> Iterator[TensorEdit]:
    assert layer.running_mean is not None  # noqa: S101  (has_statistics)
    assert layer.running_var is not None  # noqa: S101
    variance = (layer.running_var.numbers - r) / (1 - r)
    # Rounding of n products in float32 may leave a dead channel below zero by a trace.
    if np.any(variance < -1e-4 * r - 1e-7):
        raise _not_described()
    prefix = f"{layer.path}." if layer.path else ""
    if prefix + "running_mean" not in saved.tensors:
        raise NormcheckError(
            f"--unwarm: {layer.path or 'the model'} keeps statistics under other names",
            "re-estimate them with the library that the model is of",
        )
    for name, values in (
        ("running_mean", layer.running_mean.numbers / (1 - r)),
        ("running_var", np.maximum(variance, 0.0)),
        ("num_batches_tracked", np.zeros(1, dtype=np.int64)),
    ):
        ref = saved.tensors.get(prefix + name)
        if ref is not None:
            yield TensorEdit(prefix + name, ref, values)


def _not_described() -> NormcheckError:
    return NormcheckError(
        "--unwarm: a running variance lies below what count and momentum leave of the initial 1, "
        "so they do not describe these statistics",
        "check --momentum, or re-estimate with --model and --data",
    )
