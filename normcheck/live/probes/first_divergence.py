"""The first operator at which two forwards went apart, and the module that it ran under."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from normcheck.live.batches import Batch
from normcheck.live.measurement import Blame
from normcheck.live.watching.forward import Forward
from normcheck.live.watching.observe import watching
from normcheck.live.watching.reachable_modules import Reached

Fingerprint = tuple[float, float] | None
_Mark = Callable[[Tensor], Fingerprint]
_LONGEST = 200_000
"""Operators of one forward that are kept track of."""


def first_difference(
    forward: Forward, reached: list[Reached], first: Batch, second: Batch, *, row: bool
) -> Blame | None:
    """Run two batches and find the first operator whose results differ.

    Args:
        forward: Runs the model, in whatever mode it is.
        reached: The model's modules.
        first: A batch.
        second: One of the same shapes; the same one, to find where chance comes in.
        row: Compare only what belongs to the first sample.

    Returns:
        None where all results are alike, or the forwards took different paths.
    """
    size = first.size
    mark: _Mark = (lambda t: _of_row(t, size)) if row else _of_all
    before = _trace(forward, reached, first, mark)
    after = _trace(forward, reached, second, mark)
    for (path, op, one), (_, other_op, two) in zip(before, after, strict=False):
        if op != other_op:
            return Blame(path, op)
        if one is not None and two is not None and not _alike(one, two, row=row):
            return Blame(path, op)
    return None


def first_not_finite(forward: Forward, reached: list[Reached], batch: Batch) -> Blame | None:
    """The first operator that makes a NaN, or, where there is none, an infinity.

    Infinities that are written on purpose, as in attention masks, do not count.
    """
    found: list[tuple[str, str]] = []
    negative: list[tuple[str, str]] = []

    def look(path: str, op: str, result: Any) -> None:
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or found:
                continue
            lost = ~tensor.isfinite()
            if bool(lost.any()):
                # What is only minus infinity is most often a mask on its way to a softmax.
                masks = _plain(op) in _ON_PURPOSE or bool((tensor[lost] == -torch.inf).all())
                (negative if masks else found).append((path, _plain(op)))

    _watched(forward, reached, batch, look)
    found += negative
    return Blame(*found[0]) if found else None


_ON_PURPOSE = (
    "fill", "fill_", "full", "full_like", "where", "scalar_tensor", "triu", "tril", "new_full",
    "zeros", "empty", "masked_fill", "masked_fill_", "empty_like", "lift_fresh", "add", "copy_",
    "_to_copy", "expand", "view", "slice", "index", "new_empty", "unsqueeze", "clone", "detach",
    "alias", "select", "t", "transpose",
)  # fmt: skip
"""Operators that write infinities, carry them on, or leave memory as it was."""


def _trace(
    forward: Forward, reached: list[Reached], batch: Batch, mark: _Mark
) -> list[tuple[str, str, Fingerprint]]:
    steps: list[tuple[str, str, Fingerprint]] = []

    def note(path: str, op: str, result: Any) -> None:
        if len(steps) >= _LONGEST or _plain(op) in _UNWRITTEN:
            return
        tensors = result if isinstance(result, tuple | list) else (result,)
        tensor = next((t for t in tensors if isinstance(t, Tensor)), None)
        # Counters advance from one forward to the next, whatever it computes.
        if tensor is not None and not tensor.is_floating_point():
            tensor = None
        steps.append((path, _plain(op), None if tensor is None else mark(tensor)))

    _watched(forward, reached, batch, note)
    return steps


_UNWRITTEN = ("empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "resize_")
"""Operators whose result is memory that nobody has written yet."""


def _watched(
    forward: Forward, reached: list[Reached], batch: Batch, note: Callable[[str, str, Any], None]
) -> None:
    with watching(forward.model, batch.size, reached) as watch:

        def quietly(path: str, op: str, result: Any) -> None:
            # Looking at a tensor is itself made of operators.
            with torch.utils._python_dispatch._disable_current_modes():  # noqa: SLF001
                note(path, op, result)

        watch.trace = quietly
        forward(batch)


def _plain(op: str) -> str:
    return op.removeprefix("aten::")


def _alike(one: tuple[float, float], two: tuple[float, float], *, row: bool) -> bool:
    if one == two or (one[0] != one[0] and two[0] != two[0]):
        return True
    if not row:
        return False
    # Threads may add in another order; a difference by a rounding is none.
    return all(
        abs(a - b) <= 1e-5 * max(abs(a), abs(b), 1e-6) for a, b in zip(one, two, strict=True)
    )


def _of_all(tensor: Tensor) -> Fingerprint:
    if tensor.numel() == 0 or tensor.is_complex() or tensor.layout != torch.strided:
        return None
    values = tensor.detach().double()
    # The second sum is weighted by place, so that a permutation shows.
    weights = torch.arange(1, values.numel() + 1, dtype=torch.float64, device=values.device)
    return float(values.sum()), float((values.flatten() * weights).sum())


def _of_row(tensor: Tensor, size: int) -> Fingerprint:
    """Of what belongs to the first sample: along the dimension that is as long as the batch."""
    if tensor.numel() == 0 or tensor.is_complex() or tensor.layout != torch.strided:
        return None
    for dimension, length in enumerate(tensor.shape):
        if length == size:
            return _of_all(tensor.select(dimension, 0).contiguous())
    if tensor.ndim and tensor.shape[0] % size == 0:
        # Samples folded together with heads or windows.
        return _of_all(tensor.narrow(0, 0, tensor.shape[0] // size).contiguous())
    return None
