"""The user's data, batch by batch and as often as wanted, without holding more than a batch."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from normcheck.errors import NormcheckError, UsageError
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.batches import Batch, tensors_in
from normcheck.live.feeding.feed import feed_for
from normcheck.live.feeding.readings import readings
from normcheck.live.feeding.user_data import as_tensors, call_factory
from normcheck.live.loading.model_factory import imported
from normcheck.live.run_request import Feeding
from normcheck.live.watching.forward import Forward
from normcheck.platforms import names_object

_DEFAULT_BATCH = 64
"""Samples a forward, for data without batches: the result does not depend on it."""


@lazy_dataclass(frozen=False)
class BatchStream:
    """Batches that can be gone through again and again.

    Random draws of a loader (its order, augmentation) are the same in each pass, as far as they
    come from the generators of Python, numpy and torch or from the loader's own.
    """

    batches: Callable[[], Iterator[Batch]]
    source: str
    """What it is, in words."""
    shapes: str
    """Of one sample."""
    seed: int = 0
    first: Tensor | None = None
    """Sums over the first batch, by which a pass with other samples is noticed."""
    repeats: bool = True
    """Whether every pass so far began with the same samples."""

    def __iter__(self) -> Iterator[Batch]:
        """One pass over all of it."""
        torch.manual_seed(self.seed)
        random.seed(self.seed)
        np.random.seed(self.seed)
        for number, batch in enumerate(self.batches()):
            if number == 0:
                self._compare(batch)
            yield batch

    def _compare(self, batch: Batch) -> None:
        sums = [t.double().sum().cpu() for t in tensors_in((*batch.args, *batch.kwargs.values()))]
        now = torch.stack(sums) if sums else torch.zeros(0)
        if self.first is not None and not _same(self.first, now):
            self.repeats = False
        self.first = now

    def every_other(self, start: int, step: int = 1) -> Iterator[Batch]:
        """Every second sample from ``start`` on, by its number over all batches.

        Sorted data is then seen by both halves.

        Args:
            start: 0 or 1.
            step: Only one in so many of these.
        """
        before = 0
        for batch in self:
            size = batch.size
            rows = [i for i in range(size) if (before + i - start) % (2 * step) == 0]
            before += size
            if rows:
                yield batch if len(rows) == size else batch.rows(rows)

    def thinned(self, step: int) -> Iterator[Batch]:
        """One sample in ``step``."""
        before = 0
        for batch in self:
            size = batch.size
            rows = [i for i in range(size) if (before + i) % step == 0]
            before += size
            if rows:
                yield batch if len(rows) == size else batch.rows(rows)


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether they are equal, NaN being NaN."""
    return one.shape == other.shape and torch.allclose(one, other, 0, 0, equal_nan=True)


def open_stream(model: nn.Module, forward: Forward, feeding: Feeding) -> BatchStream:
    """The data that the user gave.

    Files, folders, tensors and lists are in memory; a loader or a data set gives one batch after
    another.

    Args:
        model: In eval mode, on its device.
        forward: Runs it.
        feeding: What to feed; ``samples`` is the most that are used.

    Raises:
        NormcheckError: Nothing of it runs through the model; says why.
    """
    value, source = feeding.data, "data from Python"
    if value is None:
        raise UsageError("no data to estimate from", "give --data")
    if isinstance(value, str | Path):
        text = str(value)
        if Path(text).exists() or not names_object(text):
            return _in_memory(model, forward, feeding)
        source = text
        value = imported(text, "--data")
        if callable(value) and not isinstance(value, Iterable):
            value = call_factory(value, text)
    if isinstance(value, Tensor | np.ndarray | Mapping | tuple | list):
        feed = _in_memory(model, forward, replace(feeding, data=value))
        return replace(feed, source=source)
    if hasattr(value, "__getitem__") and hasattr(value, "__len__"):
        value = DataLoader(value, batch_size=feeding.batch_size or _DEFAULT_BATCH)
    if not isinstance(value, Iterable):
        raise UsageError(
            f"{source} gives a {type(value).__name__}, not batches",
            "return a DataLoader, a Dataset, a list of batches, or tensors",
        )
    if iter(value) is value:
        # Something that can be gone through once has to be kept.
        value = list(islice(value, feeding.samples))
        if not value:
            raise UsageError(f"{source} gave no batch", "the loader has to yield at least one")
    return _streamed(model, forward, value, source, feeding.samples)


def _in_memory(model: nn.Module, forward: Forward, feeding: Feeding) -> BatchStream:
    whole = not isinstance(feeding.data, list)
    if whole and not feeding.batch_size:
        feeding = replace(feeding, batch_size=_DEFAULT_BATCH)
    feed = feed_for(model, forward, feeding)
    return BatchStream(lambda: iter(feed.batches), feed.source, feed.batches[0].shapes())


def _streamed(
    model: nn.Module, forward: Forward, loader: Iterable[Any], source: str, most: int
) -> BatchStream:
    generator = _generator(loader)
    state = torch.zeros(0) if generator is None else generator.get_state()

    def items() -> Iterator[Any]:
        if generator is not None:
            generator.set_state(state)
        try:
            yield from loader
        except NormcheckError:
            raise
        except Exception as error:
            raise NormcheckError(f"{source} failed: {type(error).__name__}: {error}") from error

    reading = _reading(items(), model, forward, source)

    def batches() -> Iterator[Batch]:
        left = most
        for item in items():
            found = list(readings(as_tensors(item), model))
            batch = found[min(reading, len(found) - 1)]
            if left <= 0:
                return
            if batch.size > left:
                batch = batch.rows(range(left))
            left -= batch.size
            yield batch

    shapes = next(batches()).shapes()
    return BatchStream(batches, source, shapes)


def _reading(items: Iterator[Any], model: nn.Module, forward: Forward, source: str) -> int:
    """Which way to read the first item the model takes."""
    first = next(items, None)
    if first is None:
        raise UsageError(f"{source} gave no batch", "the loader has to yield at least one")
    reason = ""
    for number, batch in enumerate(readings(as_tensors(first), model)):
        error = forward.error(batch.rows(range(min(2, batch.size))))
        if error is None:
            return number
        reason = reason or error
    raise NormcheckError(
        f"the model fails on the data: {reason}",
        "a loader can give exactly what forward takes, with labels behind it or without",
    )


def _generator(loader: object) -> torch.Generator | None:
    for owner in (loader, getattr(loader, "sampler", None)):
        found = getattr(owner, "generator", None)
        if isinstance(found, torch.Generator):
            return found
    return None
