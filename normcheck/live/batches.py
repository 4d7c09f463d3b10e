"""What is fed to a model: batches of rows that can be picked, moved and put together anew."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from normcheck.errors import UsageError
from normcheck.lazy_dataclass import lazy_dataclass


@lazy_dataclass(eq=False)
class Batch:
    """The arguments of one forward, and the labels that go with it."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    labels: Tensor | None = None

    @property
    def size(self) -> int:
        """Samples in it: the first dimension of its first tensor."""
        for tensor in tensors_in((*self.args, *self.kwargs.values())):
            if tensor.ndim:
                return int(tensor.shape[0])
        return 1

    @property
    def not_finite(self) -> int:
        """Samples whose inputs hold NaN or plus infinity."""
        size = self.size
        found = torch.zeros(size, dtype=torch.bool)
        for tensor in tensors_in((*self.args, *self.kwargs.values())):
            if tensor.is_floating_point() and tensor.ndim and len(tensor) == size:
                lost = tensor.isnan() | tensor.isposinf()
                found |= lost.reshape(size, -1).any(1).cpu()
        return int(found.sum())

    def rows(self, index: Sequence[int]) -> "Batch":
        """The samples at these places, in this order; those of a range share their memory."""
        size = self.size
        picked: slice | Tensor
        if isinstance(index, range) and index.step > 0 and index.start >= 0:
            picked = slice(index.start, index.stop, index.step)
        else:
            picked = torch.as_tensor(list(index))
        return self._changed(
            lambda tensor: (
                tensor[picked if isinstance(picked, slice) else picked.to(tensor.device)]
                if tensor.ndim and tensor.shape[0] == size
                else tensor
            )
        )

    def by_place(self) -> "Batch":
        """The same with its one input by place, where it has only that and by name."""
        if self.args or len(self.kwargs) != 1:
            return self
        return replace(self, args=tuple(self.kwargs.values()), kwargs={})

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> "Batch":
        """A copy on ``device``; its floating tensors converted to ``dtype`` where given."""
        return self._changed(
            lambda tensor: tensor.to(
                device, dtype if tensor.is_floating_point() else None, copy=True
            )
        )

    def floats(self, dtype: torch.dtype) -> "Batch":
        """With the integer inputs as floating numbers: images are often kept as bytes."""
        return replace(
            self,
            # Complex ones stay: what becomes of their imaginary part is not ours to say.
            args=_mapped(self.args, lambda t: t if t.is_complex() else t.to(dtype)),
            kwargs=_mapped(dict(self.kwargs), lambda t: t if t.is_complex() else t.to(dtype)),
        )

    def _changed(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        return Batch(
            _mapped(self.args, change),
            _mapped(dict(self.kwargs), change),
            None if self.labels is None else change(self.labels),
        )

    def shapes(self) -> str:
        """The shapes of its inputs without the batch, in words: ``3x224x224``."""
        named = [("", value) for value in self.args] + list(self.kwargs.items())
        parts = []
        for name, value in named:
            shapes = ["x".join(map(str, t.shape[1:])) or "1" for t in tensors_in((value,))]
            if shapes:
                parts.append((f"{name} " if name else "") + " and ".join(shapes))
        return ", ".join(parts)


@lazy_dataclass(eq=False)
class Feed:
    """Everything that a run feeds, in memory."""

    batches: tuple[Batch, ...]
    source: str
    """What it is, in words for the report."""
    real: bool
    """Whether it is the user's data, by which statistics can be judged."""
    guessed: bool = False
    """Whether even the shape is normcheck's own guess."""
    batch_size: int = 32
    """Samples a forward."""
    batch_size_given: bool = False
    """Whether that is the user's choice, as in training."""
    notes: tuple[str, ...] = ()
    guessed_from: str = ""
    """What a guess of the size of images rests on; empty where it was found by trial."""

    @property
    def samples(self) -> int:
        """How many there are."""
        return sum(batch.size for batch in self.batches)

    @property
    def labelled(self) -> bool:
        """Whether every sample has a label."""
        return all(batch.labels is not None for batch in self.batches)

    @property
    def not_finite(self) -> int:
        """Samples that hold NaN or infinity; minus infinity, which masks are of, is none."""
        return sum(batch.not_finite for batch in self.batches)

    def pooled(self) -> Batch | None:
        """All samples as one batch; None where their shapes differ (sequences of any length)."""
        return joined(self.batches)

    def rebatched(self, size: int) -> "Feed":
        """The same samples in batches of another size; itself where they cannot be joined."""
        whole = self.pooled()
        return self if whole is None else replace(self, batches=tuple(split(whole, size)))

    def part(self, index: Sequence[int]) -> "Feed":
        """Some of the samples, by their number over all batches."""
        wanted, start, kept = sorted(set(index)), 0, []
        for batch in self.batches:
            rows = [i - start for i in wanted if start <= i < start + batch.size]
            if rows:
                kept.append(batch.rows(rows))
            start += batch.size
        merged = joined(kept)
        batches = kept if merged is None else split(merged, self.batch_size)
        return replace(self, batches=tuple(batches))

    def spread(self, most: int) -> "Feed":
        """At most so many samples, evenly over all of it."""
        count = self.samples
        if count <= most:
            return self
        return self.part([i * count // most for i in range(most)])

    def halves(self) -> tuple["Feed", "Feed"]:
        """Every other sample, and the rest: both halves see all parts of sorted data."""
        count = self.samples
        return self.part(range(0, count, 2)), self.part(range(1, count, 2))


def evenly(count: int, wanted: int) -> list[int]:
    """At most ``wanted`` places, spread over all of ``count``.

    Raises:
        UsageError: There are none.
    """
    if count == 0:
        raise UsageError("the data are empty", "give at least a few samples")
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, wanted))})


def joined(batches: Sequence[Batch]) -> Batch | None:
    """One batch of all; None where the shapes of their samples differ."""
    if len(batches) == 1:
        return batches[0]
    try:
        return Batch(
            _joined([batch.args for batch in batches]),
            _joined([dict(batch.kwargs) for batch in batches]),
            None
            if any(batch.labels is None for batch in batches)
            else _joined([batch.labels for batch in batches]),
        )
    except (RuntimeError, TypeError, ValueError, IndexError):
        return None


def split(batch: Batch, size: int) -> Iterator[Batch]:
    """Batches of ``size`` samples; the last may be smaller, but is never a single sample.

    In train mode a batch of one has no statistics, so a last single one goes with the batch
    before it.
    """
    count, start = batch.size, 0
    while start < count:
        stop = min(start + size, count)
        if count - stop == 1 and size > 1:
            stop = count
        yield batch.rows(range(start, stop))
        start = stop


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors in arguments, whatever holds them."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_mapped(item, change) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(_mapped(item, change) for item in value)
    return value


def _joined(values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(values) if first.ndim else first
    if isinstance(first, Mapping):
        return {key: _joined([value[key] for value in values]) for key in first}
    if isinstance(first, list | tuple):
        columns = (_joined(list(column)) for column in zip(*values, strict=True))
        return type(first)(columns) if not hasattr(first, "_fields") else type(first)(*columns)
    return first
