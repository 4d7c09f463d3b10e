"""From what the user gave to what the model takes: the reading of the data that runs."""

import re
import time
from collections.abc import Iterator, Mapping

import torch
from torch import nn

from normcheck.errors import NormcheckError
from normcheck.live.batches import Batch, Feed
from normcheck.live.feeding.failed_trials import FailedShape, counted_modules, in_brief
from normcheck.live.feeding.image_size import likely_sizes, stated_sizes
from normcheck.live.feeding.readings import (
    INPUT_NAMES,
    all_alike,
    on_labels,
    readings,
)
from normcheck.live.feeding.size_beside import LikelySize, size_beside
from normcheck.live.feeding.synthetic_input import guesses, made, parse
from normcheck.live.feeding.user_data import read_data
from normcheck.live.input_shape import Shape
from normcheck.live.run_request import Feeding
from normcheck.live.watching.forward import Forward, of_export
from normcheck.wording import fold

ImageShape = tuple[int, int, int]
"""Channels, height and width."""
IMAGE = 4
"""Dimensions of a batch of images."""
SYNTHETIC_SAMPLES = 8
"""Made-up samples: the mechanics need a handful, and nothing is estimated from them."""
_DEFAULT_BATCH = 32
_TRIALS = 120
_TRIAL_SECONDS = 30.0
"""For all trials together; afterwards the user is asked for the shape."""


def feed_for(model: nn.Module, forward: Forward, feeding: Feeding) -> Feed:
    """What to feed: the user's data, shapes of the user's, or shapes found by trial.

    Args:
        model: In eval mode, on its device.
        forward: Runs it.
        feeding: What the user wants.

    Raises:
        NormcheckError: Nothing of it runs through the model; says why.
    """
    if feeding.data is not None:
        return _real(model, forward, feeding)
    size = forward.fixed_batch or feeding.batch_size or _DEFAULT_BATCH
    given = bool(feeding.batch_size)
    if feeding.shapes:
        shapes = [parse(text) for text in feeding.shapes]
        batch = made(shapes, SYNTHETIC_SAMPLES, model)
        error = forward.error(made(shapes, 2, model))
        if error is not None:
            raise NormcheckError(
                f"the model fails on input of shape {_words(shapes)}: {error}",
                "without the batch dimension, as 3x224x224; token ids as 128:long",
            )
        return Feed((batch,), _made_up(shapes), False, False, size, given)
    shapes, why = _by_trial(model, forward, feeding)
    batch = made(shapes, SYNTHETIC_SAMPLES, model)
    known = bool(of_export(model, "known_inputs"))  # an export says what it takes
    from_ = "" if known else why
    return Feed((batch,), _made_up(shapes), False, not known, size, given, guessed_from=from_)


def image_shape(feed: Feed) -> ImageShape | None:
    """Of the one input of floating numbers that a model takes; None where it takes others."""
    batch = feed.batches[0]
    x = batch.args[0] if len(batch.args) == 1 and not batch.kwargs else None
    if not isinstance(x, torch.Tensor) or x.ndim != IMAGE or not x.is_floating_point():
        return None
    return int(x.shape[1]), int(x.shape[2]), int(x.shape[3])


def trained_shape(model: nn.Module, forward: Forward, feed: Feed) -> ImageShape | None:
    """The same as of the training's images, as the layers suggest them where the size is a guess.

    None where the model takes no image.
    """
    shape = image_shape(feed)
    if shape is None or not feed.guessed or feed.guessed_from:
        return shape
    for size in likely_sizes(model):
        dimensions = (shape[0], size.height, size.width)
        if forward.error(made([Shape(dimensions)], 2, model)) is None:
            return dimensions
    return shape


def _real(model: nn.Module, forward: Forward, feeding: Feeding) -> Feed:
    raw = read_data(feeding, model)
    first: str | None = None
    for number, batch in _attempts(raw.items[0], model, forward):
        error = forward.error(batch.rows(range(min(2, batch.size))))
        first = first or error
        if error is None:
            floats = number >= _AS_FLOATS
            reading = number - _AS_FLOATS if floats else number
            batches = all_alike(raw.items, reading, model)
            if floats:
                batches = tuple(b.floats(forward.dtype) for b in batches)
            size = feeding.batch_size or min(raw.batch_size or _DEFAULT_BATCH, 256)
            size = forward.fixed_batch or size
            notes = on_labels(raw.items[0], model, reading)
            feed = Feed(batches, raw.source, True, False, size, bool(feeding.batch_size), notes)
            return feed.rebatched(size)
    item = raw.items[0]
    if isinstance(item, Mapping) and not any(str(key).lower() in _KNOWN_NAMES for key in item):
        names = [str(key) for key in item]
        raise NormcheckError(
            f"the model takes nothing called {fold(names)}: {first}",
            "call the array of inputs x and that of labels y, or name them as forward does",
        )
    # Of the likeliest reading: labels are no input.
    shapes = next(readings(item, model)).shapes()
    raise NormcheckError(
        f"the model fails on the data ({shapes or type(item).__name__} a sample): {first}",
        "images are channels first, (N, C, H, W); a loader can give exactly what forward takes"
        if first is None or _OF_SHAPES.search(first)
        else "it fails in its own code: model(x) on a few of the samples shows where",
    )


_KNOWN_NAMES = frozenset(INPUT_NAMES)
_OF_SHAPES = re.compile(
    r"shape|size|dim|channel|mat1|expected|unpack|argument|index out of", re.IGNORECASE
)
"""What errors of torch say where the input is not of the form that the model takes."""
_AS_FLOATS = 1000
"""Readings from this number on are the same ones with integers as floating numbers."""


def _attempts(item: object, model: nn.Module, forward: Forward) -> Iterator[tuple[int, Batch]]:
    found = list(readings(item, model))
    yield from enumerate(found)
    for number, batch in enumerate(found):
        yield _AS_FLOATS + number, batch.floats(forward.dtype)


def _by_trial(model: nn.Module, forward: Forward, feeding: Feeding) -> tuple[list[Shape], str]:
    """Shapes that the model takes, and what the size of images was guessed from, if anything."""
    start = time.monotonic()
    failures: list[FailedShape] = []
    likely = list(stated_sizes(model))
    if feeding.beside and (told := size_beside(feeding.beside)) is not None:
        likely.insert(0, told)
    if feeding.as_trained:
        likely += likely_sizes(model)
    for shapes in guesses(model, likely):
        if len(failures) >= _TRIALS or time.monotonic() - start > _TRIAL_SECONDS:
            break
        with counted_modules() as count:
            error = forward.error(made(shapes, 2, model))
        if error is None:
            return shapes, _why(shapes, likely)
        failures.append(FailedShape(tuple(shapes), error, count[0]))
    raise NormcheckError(
        f"no input was found that the model takes ({in_brief(failures)})",
        "give its shape without the batch, --input-shape 3x224x224, or --data",
    )


def _why(shapes: list[Shape], likely: list[LikelySize]) -> str:
    """What said so of the size of images that ran; empty where they were found by trial."""
    size = shapes[0].dimensions[1:]
    return next((s.why for s in likely if (s.height, s.width) == size), "")


def _words(shapes: list[Shape]) -> str:
    return ", ".join(str(shape) for shape in shapes)


def _made_up(shapes: list[Shape]) -> str:
    random = "random numbers" if all(shape.dtype == "float" for shape in shapes) else "random input"
    return f"{random} of shape {_words(shapes)}"


def device_of(name: str) -> torch.device:
    """The device that the user named.

    Raises:
        NormcheckError: Not there.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        raise NormcheckError(f"--device {name}: {reason}", "cpu always works") from error
    return device
