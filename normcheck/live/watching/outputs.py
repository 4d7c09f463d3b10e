"""What a forward gives, flattened and compared; any structure, any number of outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from normcheck.lazy_dataclass import lazy_dataclass

_DEPTH = 8
_MAIN_NAMES = ("logits", "out", "output", "outputs", "pred", "prediction", "predictions", "scores")


@lazy_dataclass(eq=False)
class ForwardOutput:
    """The tensors of one forward, by where they sit in what it returned."""

    tensors: Mapping[str, Tensor]

    def main(self, size: int) -> Tensor | None:
        """The output that predictions are read from: per sample, floating, finite or not.

        Args:
            size: Samples in the batch.
        """
        found = {
            name: tensor
            for name, tensor in self.tensors.items()
            if tensor.is_floating_point() and tensor.ndim and tensor.shape[0] == size
        }
        for name in _MAIN_NAMES:
            if name in found:
                return found[name]
        return next(iter(found.values()), None)


def flattened(value: Any) -> ForwardOutput:
    """All tensors in what a forward returned, with names that tell where they sat."""
    return ForwardOutput(dict(_walk("", value, _DEPTH)))


def _walk(name: str, value: Any, depth: int) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value.detach()
    elif depth == 0:
        return
    else:
        for part, item in _parts(name, value):
            yield from _walk(part, item, depth - 1)


def _parts(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """What lies in a container or an object, each with its name."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type | Mapping):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        yield from ((_join(name, str(key)), item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"{name}[{index}]", item) for index, item in enumerate(value))
    elif hasattr(value, "__dict__") and not callable(value):
        # Distributions, and classes of the user's.
        yield from ((_join(name, key), item) for key, item in vars(value).items())


def _join(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def same(first: ForwardOutput, second: ForwardOutput) -> bool:
    """Whether two outputs are equal, bit for bit but for NaN, which equals itself here."""
    if first.tensors.keys() != second.tensors.keys():
        return False
    return all(_equal(tensor, second.tensors[name]) for name, tensor in first.tensors.items())


def _equal(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if torch.equal(a, b):
        return True
    return bool(torch.allclose(a.float(), b.float(), rtol=0, atol=0, equal_nan=True))


def same_structure(first: ForwardOutput, second: ForwardOutput) -> bool:
    """Whether two outputs have the same tensors of the same shapes."""
    return {name: t.shape for name, t in first.tensors.items()} == {
        name: t.shape for name, t in second.tensors.items()
    }


def difference(first: ForwardOutput, second: ForwardOutput) -> float:
    """The largest relative difference of any floating output: ``|a - b| / |b|`` in L2.

    Infinite where shapes differ; a NaN on one side only counts as infinite as well.
    """
    worst = 0.0
    for name, b in second.tensors.items():
        a = first.tensors.get(name)
        if a is None or a.shape != b.shape:
            return float("inf")
        worst = max(worst, relative(a, b))
    return worst


def relative(a: Tensor, b: Tensor) -> float:
    """``|a - b| / |b|`` in L2, over the places where both are finite; in float64.

    A place that is finite on one side only makes it infinite.
    """
    x, y = a.double().flatten().cpu(), b.double().flatten().cpu()
    finite = x.isfinite() & y.isfinite()
    if bool((x.isfinite() != y.isfinite()).any()):
        return float("inf")
    x, y = x[finite], y[finite]
    size = float(y.norm())
    gap = float((x - y).norm())
    return 0.0 if gap == 0 else gap / size if size > 0 else float("inf")


def decisions(main: Tensor) -> Tensor | None:
    """The classes that a class-like output decides for; None where it decides nothing.

    ``(N, C)`` over C, ``(N, C, H, W)`` over C as in segmentation, ``(N, T, C)`` over C; values
    within 0 to 1 of one column are a probability, decided at one half.
    """
    if main.ndim >= 2 and main.shape[1] > 1 and main.ndim != 3:
        return main.argmax(dim=1)
    if main.ndim == 3 and main.shape[2] > 1:
        return main.argmax(dim=2)
    flat = main.reshape(main.shape[0], -1)
    if flat.shape[1] == 1 and bool(((flat >= 0) & (flat <= 1)).all()):
        return (flat[:, 0] > 0.5).long()
    return None


def flips(first: Sequence[Tensor], second: Sequence[Tensor]) -> float | None:
    """The share of decisions that differ; None where the outputs decide nothing."""
    changed = total = 0
    for a, b in zip(first, second, strict=True):
        x, y = decisions(a), decisions(b)
        if x is None or y is None or x.shape != y.shape:
            return None
        changed += int((x != y).sum())
        total += x.numel()
    return changed / total if total else None


def yes_or_no(main: Tensor, labels: Tensor) -> Tensor | None:
    """Labels of 0 and 1, one for each number of the output, in its shape; None where they are not.

    Scores of one column, several marks a sample, masks. One-hot labels are classes.
    """
    if labels.numel() != main.numel() or not labels.numel():
        return None
    wanted = labels.to(main.device, torch.float64).reshape(main.shape)
    if not bool(((wanted == 0) | (wanted == 1)).all()) or wanted.min() == wanted.max():
        return None
    return None if as_classes(main, labels) is not None else wanted


def as_classes(main: Tensor, labels: Tensor) -> Tensor | None:
    """The classes that labels stand for which are not written as such; None where they do not.

    Rows of zeros with a single one, and classes that a table kept as floating numbers.
    """
    if main.ndim != 2 or main.shape[1] < 2 or not labels.numel():
        return None
    if labels.is_floating_point() and labels.numel() == len(main) == len(labels):
        whole = (labels >= 0) & (labels < main.shape[1]) & (labels == labels.round())
        return labels.reshape(-1).long() if bool(whole.all()) else None
    if labels.shape != main.shape:
        return None
    marks = (labels == 0) | (labels == 1)
    if not bool(marks.all()) or not bool((labels.sum(dim=1) == 1).all()):
        return None
    return labels.argmax(dim=1)


def _said_yes(main: Tensor, wanted: Tensor) -> Tensor:
    """Which numbers mean yes: above one half as probabilities, above 0 as scores.

    Regressions on 0 and 1 leave that interval a little, so labels decide between the two.
    """
    above = [main > 0.5]
    if not bool(((main >= 0) & (main <= 1)).all()):
        above.append(main > 0)
    return max(above, key=lambda yes: int((yes == (wanted > 0.5)).sum()))


def decided(main: Tensor, labels: Tensor) -> tuple[Tensor, Tensor] | None:
    """What is decided and what is right, of one shape; None where labels are no decisions."""
    wanted = yes_or_no(main, labels)
    if wanted is not None:
        return _said_yes(main, wanted).long(), wanted.long()
    classes = as_classes(main, labels)
    labels = labels if classes is None else classes
    chosen = decisions(main)
    if chosen is None or labels.is_floating_point():
        return None
    if labels.ndim == chosen.ndim + 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    return (chosen, labels.to(chosen.device)) if labels.shape == chosen.shape else None


def correct(main: Tensor, labels: Tensor) -> Tensor | None:
    """Which decisions are right, one bool each; None where labels and outputs do not match."""
    found = decided(main, labels)
    if found is None:
        return None
    chosen, wanted = found
    # A score that is not finite is no answer, whatever argmax makes of it.
    finite = main.isfinite()
    if chosen.shape != main.shape:
        finite = finite.all(dim=2 if main.ndim == 3 else 1) if main.ndim > 1 else finite
    return (chosen == wanted) & finite.reshape(chosen.shape)


def loss(main: Tensor, labels: Tensor) -> Tensor | None:
    """The loss of each sample: cross-entropy for classes and marks, squared error for numbers.

    Of outputs with a decision at each place (segmentation, tokens) the mean over the places.
    """
    labels = labels.to(main.device)
    wanted = yes_or_no(main, labels)
    if wanted is not None:
        return _loss_of_marks(main.double(), wanted).reshape(len(main), -1).mean(dim=1)
    classes = as_classes(main, labels)
    labels = labels if classes is None else classes
    if are_numbers(main, labels):
        if labels.numel() != main.numel():
            return None
        return (
            (main.double() - labels.reshape(main.shape)).square().reshape(len(main), -1).mean(dim=1)
        )
    if main.ndim < 2 or not len(labels):
        return None
    # (N, T, C) decides over its last axis, as ``decisions`` has it; the others over the second.
    scores = main.movedim(2, 1) if main.ndim == 3 else main
    if scores.shape[1] < 2 or labels.shape != scores.shape[:1] + scores.shape[2:]:
        return None
    counted = _labelled(labels, scores.shape[1])
    if counted is None or not bool(counted.any()):
        return None
    safe = torch.where(counted, labels, torch.zeros_like(labels)).long()
    each = torch.nn.functional.cross_entropy(scores.double(), safe, reduction="none")
    each = (each * counted).reshape(len(main), -1)
    shares = counted.reshape(len(main), -1)
    return each.sum(dim=1) / shares.sum(dim=1).clamp_min(1)


def are_numbers(main: Tensor, labels: Tensor) -> bool:
    """Whether labels are numbers that the output predicts; whole ones where it has one column."""
    if yes_or_no(main, labels) is not None or as_classes(main, labels) is not None:
        return False
    if labels.is_floating_point():
        return True
    return labels.numel() == main.numel() == len(main)


def _loss_of_marks(main: Tensor, wanted: Tensor) -> Tensor:
    if bool(((main >= 0) & (main <= 1)).all()):
        return torch.nn.functional.binary_cross_entropy(
            main.clamp(1e-7, 1 - 1e-7), wanted, reduction="none"
        )
    return torch.nn.functional.binary_cross_entropy_with_logits(main, wanted, reduction="none")


def _labelled(labels: Tensor, classes: int) -> Tensor | None:
    """Which labels count; None where there are others than classes and "ignore this place"."""
    counted = (labels >= 0) & (labels < classes)
    if labels.ndim == 1:
        return counted if bool(counted.all()) else None
    ignored = (labels == -100) | (labels == 255)
    return counted if bool((counted | ignored).all()) else None
