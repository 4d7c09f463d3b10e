"""How an item of the user's data can be meant: which parts are inputs and which are labels."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from torch import Tensor, nn

from normcheck.live.batches import Batch, joined
from normcheck.wording import plural

LABEL_NAMES = ("labels", "label", "targets", "target", "y", "y_true", "classes")
INPUT_NAMES = ("inputs", "input", "x", "images", "image", "img", "data", "features", "samples")


def readings(item: Any, model: nn.Module) -> Iterator[Batch]:
    """How an item can be meant: which parts are inputs and which are labels, likeliest first.

    Labels of another number than the samples are left out: which sample each is of is not told.

    Args:
        item: A tensor, a tuple or list, or a mapping, as a loader gives it.
        model: Whose ``forward`` names and counts the inputs.
    """
    for batch in _readings(item, model):
        yield batch if _labels_without_samples(batch) is None else replace(batch, labels=None)


def _labels_without_samples(batch: Batch) -> int | None:
    """How many labels there are where they are not one for each sample."""
    labels = batch.labels
    if labels is None or (labels.ndim and len(labels) == batch.size):
        return None
    return len(labels) if labels.ndim else 1


def on_labels(item: Any, model: nn.Module, reading: int) -> tuple[str, ...]:
    """A note on labels that a reading of an item leaves out."""
    batch = next(islice(_readings(item, model), reading, None), None)
    if batch is None:
        return ()
    texts = _texts_as_labels(item, batch.size) if batch.labels is None else None
    if texts is not None:
        left_out = f"the labels are left out: they are texts ({texts[0]!r:.40})"
        return (f"{left_out}, and accuracy needs the numbers of the classes, from 0",)
    count = _labels_without_samples(batch)
    if count is None:
        return ()
    held = f"{plural(count, 'label')} for {plural(batch.size, 'sample')}"
    return (f"the labels are left out: {held}, and there has to be one for each",)


def _texts_as_labels(item: Any, samples: int) -> Sequence[str] | None:
    """Texts that are called labels, or stand beside the inputs as classes would: several alike."""
    if isinstance(item, Mapping):
        named = (item[key] for name in LABEL_NAMES for key in item if key.lower() == name)
        return next((list(map(str, value)) for value in named if is_text(value)), None)
    parts = item if isinstance(item, list | tuple) else ()
    beside = (list(map(str, part)) for part in parts if is_text(part))
    # Texts that all differ are names of files, or captions.
    return next((t for t in beside if len(t) == samples and 2 * len(set(t)) <= samples), None)


def is_text(value: Any) -> bool:
    """Whether it is an array, or a sequence, of texts."""
    if isinstance(value, np.ndarray):
        if value.ndim != 1 or value.dtype.kind != "O":
            return value.ndim == 1 and value.size > 0 and value.dtype.kind in "US"
    elif not isinstance(value, list | tuple):
        return False
    return len(value) > 0 and all(isinstance(entry, str) for entry in value)


def _readings(item: Any, model: nn.Module) -> Iterator[Batch]:
    names, required, open_ended = parameters(model)
    if isinstance(item, Mapping):
        yield from _of_mapping(dict(item), names, open_ended=open_ended)
    elif isinstance(item, list | tuple) and item:
        yield from _of_sequence(list(item), required)
    yield Batch((item,))


def parameters(model: nn.Module) -> tuple[list[str], int, bool]:
    """Names of what ``forward`` takes, how many it requires, and whether it takes any name."""
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):
        return [], 1, True
    given = list(signature.parameters.values())
    names = [p.name for p in given if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    required = sum(
        p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        for p in given
    )
    return names, required, any(p.kind is p.VAR_KEYWORD for p in given)


def _of_mapping(item: dict[str, Any], names: list[str], *, open_ended: bool) -> Iterator[Batch]:
    # ``X`` and ``Y`` are how half of all tables are called.
    named = [key for name in LABEL_NAMES for key in item if key.lower() == name]
    for key in [key for key in named if is_text(item[key])]:
        named.remove(key)
        del item[key]
    labels = item.pop(named[0]) if named else None
    labels = labels if isinstance(labels, Tensor) else None
    known = {name: value for name, value in item.items() if name in names}
    if known and (len(known) == len(item) or not open_ended):
        yield Batch((), known, labels)
    for name in INPUT_NAMES:
        for key, value in item.items():
            if key.lower() == name:
                yield Batch((value,), {}, labels)
    if open_ended:
        yield Batch((), item, labels)
    if len(item) == 1:
        yield Batch(tuple(item.values()), {}, labels)
    yield Batch((item,), {}, labels)


def _of_sequence(item: list[Any], required: int) -> Iterator[Batch]:
    # Text, paths and numbers that a data set adds are for people.
    parts = [part for part in item if not _for_people(part)]
    wanted = max(1, required)
    last = parts[wanted] if len(parts) > wanted else None
    labels = last if isinstance(last, Tensor) else None
    if len(parts) >= wanted:
        yield Batch(tuple(parts[:wanted]), {}, labels)
    first = parts[0] if parts else None
    if isinstance(first, list | tuple):
        yield Batch(tuple(first), {}, parts[1] if len(parts) > 1 else None)
    if isinstance(first, Mapping):
        yield Batch((), dict(first), parts[1] if len(parts) > 1 else None)
    yield Batch(tuple(parts))


def _for_people(part: Any) -> bool:
    return is_text(part) or isinstance(part, str | int | float | type(None))


def all_alike(items: tuple[Any, ...], reading: int, model: nn.Module) -> tuple[Batch, ...]:
    """All items read in the way that worked for the first."""
    found = []
    for item in items:
        batches = list(readings(item, model))
        found.append(batches[min(reading, len(batches) - 1)])
    merged = joined(found) if len(found) == 1 else None
    return (merged,) if merged is not None else tuple(found)
