"""Whether labels are classes that the model has."""

from collections.abc import Sequence

import torch
from torch import Tensor

from normcheck.errors import NormcheckError
from normcheck.live.watching import outputs

_NO_LABEL = (-100, -1, 255)
"""Customary marks of places to ignore, in masks and tokens."""


def check_range(mains: Sequence[Tensor], labels: Sequence[Tensor | None]) -> None:
    """Refuse labels that no output stands for: they count as wrong answers, whoever is right.

    Where a sample has many decisions (segmentation, tokens), the customary marks of places to
    ignore are none of the labels.

    Args:
        mains: Outputs of each batch.
        labels: That go with them.

    Raises:
        NormcheckError: A label is of no class; names both ranges.
    """
    ranges = [
        found
        for main, label in zip(mains, labels, strict=True)
        if label is not None and (found := _range(main, label)) is not None
    ]
    if not ranges:
        return
    least, greatest = min(r[0] for r in ranges), max(r[1] for r in ranges)
    classes = min(r[2] for r in ranges)
    if least >= 0 and greatest < classes:
        return
    raise NormcheckError(
        f"labels run from {least} to {greatest}, the model has outputs for 0 to {classes - 1}",
        _hint(least, greatest, classes),
    )


def _range(main: Tensor, labels: Tensor) -> tuple[int, int, int] | None:
    """The least and the greatest label, and the number of classes; None where there are none."""
    if main.ndim < 2 or labels.is_complex():
        return None
    found = outputs.decided(main, labels)
    if found is None or outputs.yes_or_no(main, labels) is not None:
        return None
    wanted = found[1].long()
    if wanted.ndim > 1:
        wanted = wanted[~torch.isin(wanted, torch.tensor(_NO_LABEL, device=wanted.device))]
    classes = main.shape[2] if main.ndim == 3 else main.shape[1]
    if classes < 2 or not wanted.numel():
        return None
    return int(wanted.min()), int(wanted.max()), classes


def _hint(least: int, greatest: int, classes: int) -> str:
    if least == 1 and greatest == classes:
        return "they seem to count from 1: subtract 1"
    if least in _NO_LABEL:
        return f"leave out the samples without a label ({least})"
    return (
        "labels are numbers of classes from 0; where they mean something else, or the outputs are "
        "no scores of classes, give the data without them"
    )
