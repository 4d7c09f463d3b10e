"""Made-up input: of shapes that the user gives, or that are worked out by trial.

Enough for the mechanics of a forward. No statistic is ever judged by it: a healthy model's
modes differ on noise as much as a broken one's.
"""

import inspect
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from normcheck.errors import UsageError
from normcheck.live.batches import Batch
from normcheck.live.feeding.size_beside import LikelySize
from normcheck.live.input_shape import FLOAT, Shape
from normcheck.live.watching.forward import of_export

_LONG, _BOOL = "long", "bool"
_DTYPES = {
    "float": FLOAT, "float32": FLOAT, "long": _LONG, "int": _LONG, "int64": _LONG, "bool": _BOOL,
}  # fmt: skip
_ID_WORDS = ("input_ids", "ids", "token", "tokens", "idx", "index", "indices", "token_ids")
_MASK_WORDS = ("mask", "valid")
_STEP_WORDS = ("timestep", "timesteps", "t", "time", "times", "sigma", "noise_level", "step")
_SIZES = (64, 32, 224, 96, 128, 256, 28, 16, 48, 8, 299, 384, 512)
"""Sides of images, the commonest first that are cheap."""
_LENGTHS = (16, 32, 64, 128, 8, 256, 512, 1024)
"""Steps of sequences."""
_SIGNALS = (128, 1024, 16000, 64, 4096, 32, 256)
"""Samples of signals for one-dimensional convolutions."""
_VOLUMES = ((16, 32, 32), (8, 64, 64), (32, 32, 32), (16, 112, 112), (8, 16, 16))
_LENGTH_NAMES = ("seq_len", "max_len", "max_length", "block_size", "context_length", "seq_length")
_MOST_ELEMENTS = 1 << 22
"""Elements in one sample of a guess: beyond, a trial costs too much."""


def parse(text: str) -> Shape:
    """``3x224x224``, ``3,224,224``, ``128:long`` or ``input_ids=128:long``.

    Raises:
        UsageError: Something else.
    """
    rest, _, dtype = text.partition(":")
    name, equals, numbers = rest.rpartition("=")
    words = numbers.replace(",", "x").lower().split("x") if numbers not in ("", "scalar") else []
    if (
        (dtype and dtype not in _DTYPES)
        or (equals and not name.strip().isidentifier())
        or not all(word.strip().isdecimal() and int(word) > 0 for word in words)
    ):
        raise UsageError(
            f"--input-shape {text}: not a shape",
            "without the batch, as 3x224x224, tokens 128:long, by name input_ids=128:long",
        )
    return Shape(tuple(int(word) for word in words), _DTYPES[dtype or "float"], name.strip())


def made(shapes: list[Shape], count: int, model: nn.Module, seed: int = 0) -> Batch:
    """``count`` samples of these shapes: normal numbers, or token ids within the vocabulary."""
    generator = torch.Generator().manual_seed(seed)
    vocabulary = next((m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding)), 2)
    values = [(shape.name, _values(shape, count, vocabulary, generator)) for shape in shapes]
    return Batch(
        tuple(value for name, value in values if not name),
        {name: value for name, value in values if name},
    )


def _values(shape: Shape, count: int, vocabulary: int, generator: torch.Generator) -> Tensor:
    size = (count, *shape.dimensions)
    if shape.dtype == _BOOL:
        return torch.ones(size, dtype=torch.bool)
    if shape.dtype == _LONG:
        high = shape.high if shape.high > 2 else vocabulary
        return torch.randint(0, max(1, high), size, generator=generator)
    return torch.randn(size, generator=generator)


def guesses(model: nn.Module, likely: Sequence[LikelySize] = ()) -> Iterator[list[Shape]]:
    """Inputs that the model may take, likeliest first, without a promise that any fits.

    Args:
        model: What takes them.
        likely: Sizes of images that come before the usual ones.
    """
    known = of_export(model, "known_inputs")
    if known:
        yield known
        return
    required, main = _inputs(model)
    seen: set[tuple[Shape, ...]] = set()
    for shape in _first_shapes(model, likely):
        if math.prod(shape.dimensions) > _MOST_ELEMENTS:
            continue
        for shapes in _spread_over(shape, required, main, model):
            if tuple(shapes) not in seen:
                seen.add(tuple(shapes))
                yield shapes


def _inputs(model: nn.Module) -> tuple[list[str], str]:
    """Names of the required inputs; the main one's where none is required."""
    try:
        given = list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):
        return ["input"], ""
    required = [
        p.name
        for p in given
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.POSITIONAL_ONLY)
    ]
    main = getattr(model, "main_input_name", "")
    if required or any(p.kind is p.VAR_POSITIONAL for p in given):
        return required or ["input"], ""
    names = [p.name for p in given if p.kind is not p.VAR_KEYWORD]
    return [], main if main in names else (names[0] if names else "")


def _spread_over(
    shape: Shape, required: list[str], main: str, model: nn.Module
) -> Iterator[list[Shape]]:
    if main:
        named = Shape(shape.dimensions, shape.dtype, main, shape.high)
        yield [named]
        if main == "input_ids":
            yield [named, Shape(shape.dimensions, _LONG, "decoder_input_ids", shape.high)]
        return
    yield [_for_name(name, shape, model) if i else shape for i, name in enumerate(required)]
    if len(required) > 1:
        yield [shape for _ in required]


def _for_name(name: str, first: Shape, model: nn.Module) -> Shape:
    """A further input, by what it is called."""
    lower = name.lower()
    if any(word in lower for word in _MASK_WORDS):
        return Shape(first.dimensions[:1], _BOOL)
    if lower in _STEP_WORDS:
        return Shape((), _LONG, high=10)
    if lower in _ID_WORDS:
        return Shape(first.dimensions[:1] or (16,), _LONG)
    if lower in ("y", "labels", "label", "classes", "cls"):
        return Shape((), _LONG, high=_embedding_size(model) or 2)
    return first


def _embedding_size(model: nn.Module) -> int | None:
    return next((m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding)), None)


def _first_shapes(model: nn.Module, likely: Sequence[LikelySize]) -> Iterator[Shape]:
    """Shapes that the layers suggest, those of the first layers first."""
    known = ((size.height, size.width) for size in likely)
    sizes = list(dict.fromkeys((*known, *((side, side) for side in _SIZES))))
    lengths = [*_hints(model, _LENGTH_NAMES), *_LENGTHS, *_positions(model)]
    suggested = 0
    for module in model.modules():
        if any(module.children()) and not isinstance(module, nn.MultiheadAttention):
            continue
        shapes = list(_of_layer(module, sizes, lengths))
        if shapes:
            yield from shapes
            suggested += 1
        if suggested >= 4:
            break
    yield from (Shape((3, 64, 64)), Shape((16,)), Shape((1, 28, 28)), Shape((16,), _LONG))


def _of_layer(
    module: nn.Module, sizes: list[tuple[int, int]], lengths: list[int]
) -> Iterator[Shape]:
    match module:
        case nn.Conv2d() | nn.ConvTranspose2d():
            yield from (Shape((module.in_channels, *size)) for size in sizes)
        case nn.Conv1d() | nn.ConvTranspose1d():
            yield from (Shape((module.in_channels, n)) for n in (*_SIGNALS, *lengths))
            yield from (Shape((n,)) for n in _SIGNALS)
            yield from (Shape((n, module.in_channels)) for n in lengths)
        case nn.Conv3d() | nn.ConvTranspose3d():
            yield from (Shape((module.in_channels, *volume)) for volume in _VOLUMES)
        case nn.Embedding() | nn.EmbeddingBag():
            high = module.num_embeddings
            yield from (Shape((n,), _LONG, high=high) for n in lengths)
        case nn.Linear() | nn.LazyLinear():
            yield from _of_features(module.in_features or 16, lengths)
        case nn.RNNBase():
            yield from (Shape((n, module.input_size)) for n in lengths)
        case nn.MultiheadAttention():
            yield from (Shape((n, module.embed_dim)) for n in lengths)
        case nn.BatchNorm2d() | nn.InstanceNorm2d():
            yield from (Shape((module.num_features, *size)) for size in sizes)
        case nn.BatchNorm1d() | nn.InstanceNorm1d():
            yield Shape((module.num_features,))
            yield from (Shape((module.num_features, n)) for n in lengths)
        case nn.GroupNorm():
            yield from (Shape((module.num_channels, *size)) for size in sizes)
        case nn.LayerNorm() | nn.RMSNorm():
            yield Shape(tuple(module.normalized_shape))
            yield from (Shape((n, *module.normalized_shape)) for n in lengths)


def _of_features(features: int, lengths: list[int]) -> Iterator[Shape]:
    yield Shape((features,))
    for channels in (1, 3):
        side = math.isqrt(features // channels)
        if side > 3 and channels * side * side == features:
            yield Shape((channels, side, side))  # images that the model flattens itself
    yield from (Shape((n, features)) for n in lengths)
    # A patch is often all that a first linear layer sees of an image.
    yield from (Shape((1, n, features)) for n in lengths)
    yield Shape((features, features))


def _hints(model: nn.Module, names: tuple[str, ...]) -> list[int]:
    """Lengths that the model or its configuration states."""
    found: list[int] = []
    for owner in (model, getattr(model, "config", None), *model.children()):
        for name in names:
            value: Any = getattr(owner, name, None) if owner is not None else None
            if isinstance(value, tuple | list) and value:
                value = value[-1]
            if isinstance(value, int) and 0 < value <= 2048 and value not in found:
                found.append(value)
    return found


def _positions(model: nn.Module) -> list[int]:
    """Lengths that learned positions have room for: first dimensions of small tables."""
    found = [m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding)]
    found += [
        int(parameter.shape[-2])
        for parameter in model.parameters()
        if parameter.ndim == 2 or (parameter.ndim == 3 and parameter.shape[0] == 1)
    ]
    kept: list[int] = []
    for length in found:
        if 1 < length <= 2048 and length not in kept:
            kept.append(length)
    return kept[:12]
