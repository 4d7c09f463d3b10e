"""What other code of the same model may compute: other activations, borders, sizes, pooling, eps.

Each variant takes the place of operators in a forward. What conversions and ports change most
often: an activation that a fused layer had, or that works in place on what a shortcut takes as
well; what stands at the borders (PyTorch pads both sides by as much, TensorFlow's ``same`` the
right and the lower one by more); how images are enlarged; what is pooled.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.watching.observe import Exchange
from normcheck.live.watching.operators import Op

_EPS = (1e-3, 1e-5)
MOST_VARIANTS = 26
"""That are tried of one model."""

Activation = Callable[[Tensor], Tensor]


@lazy_dataclass()
class Variant:
    """One change of the code."""

    words: str
    eps: float | None = None
    exchange: Exchange | None = None
    behind_norms: Activation | None = None
    """Put behind each norm, where the model runs no activation."""
    at_once: bool = False
    """Whether it changes what reaches the first norm, too."""


_ACTIVATIONS: dict[str, Activation] = {
    "ReLU": torch.relu,
    "SiLU": functional.silu,
    "GELU": functional.gelu,
    "leaky ReLU (0.1)": lambda x: functional.leaky_relu(x, 0.1),
    "leaky ReLU (0.01)": lambda x: functional.leaky_relu(x, 0.01),
    "leaky ReLU (0.2)": lambda x: functional.leaky_relu(x, 0.2),
    "hard swish": functional.hardswish,
    "ReLU6": functional.relu6,
}
_SIZES: dict[str, dict[str, Any]] = {
    "nearest": {"mode": "nearest"},
    "bilinear": {"mode": "bilinear", "align_corners": False},
    "bilinear (align_corners)": {"mode": "bilinear", "align_corners": True},
    "bicubic": {"mode": "bicubic", "align_corners": False},
}
_BORDERS = {"reflected": "reflect", "repeated": "replicate"}


def variants(eps: Collection[float], ran: Mapping[str, int]) -> Iterator[Variant]:
    """What to try of a model.

    Args:
        eps: Of its norms.
        ran: How many operators of each kind a forward has.
    """
    for value in _EPS:
        if set(eps) != {value}:
            yield Variant(f"eps {value:g}", eps=value)
    if ran.get("activation"):
        yield Variant("its activations left out", exchange=_activated(lambda x: x))
        yield Variant(
            "its activations working in place (inplace=True)", exchange=_in_place, at_once=True
        )
    for name, activation in _ACTIVATIONS.items():
        if ran.get("activation"):
            words = f"{name} in place of its activations"
            yield Variant(words, exchange=_activated(activation))
        else:
            yield Variant(f"{name} behind each norm", behind_norms=activation)
    if ran.get("convolution"):
        words = "zeros at the right and lower borders alone where it strides, as TensorFlow's same"
        yield Variant(words, exchange=_strided, at_once=True)
        for name, how in {**_BORDERS, "circular": "circular"}.items():
            yield Variant(f"{name} borders", exchange=_bordered(how), at_once=True)
    if ran.get("padding"):
        for name, how in {"zeros": "constant", **_BORDERS}.items():
            yield Variant(f"{name} borders", exchange=_repadded(how), at_once=True)
        yield Variant("borders alike on both sides", exchange=_evenly, at_once=True)
    if ran.get("resize"):
        for name, size in _SIZES.items():
            yield Variant(f"{name} interpolation", exchange=_resized(size), at_once=True)
    if ran.get("pooling"):
        yield Variant("average pooling in place of max pooling", exchange=_averaged, at_once=True)
        yield Variant("max pooling in place of average pooling", exchange=_largest, at_once=True)


def _activated(activation: Activation) -> Exchange:
    def exchange(kind: str, func: Op, args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
        if kind != "activation":
            return None
        x: Tensor = args[0]
        found = activation(x)
        return x.copy_(found) if func._schema.name.endswith("_") else found  # noqa: SLF001

    return exchange


def _in_place(kind: str, func: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if kind != "activation" or func._schema.name.endswith("_"):  # noqa: SLF001
        return None
    found = func(*args, **kwargs)
    args[0].copy_(found)
    return found


def _both_sides(padding: list[int]) -> list[int]:
    """As ``functional.pad`` takes it: the last dimension first."""
    return [width for width in reversed(padding) for _ in range(2)]


def _padded(func: Op, args: tuple[Any, ...], widths: list[int], how: str) -> Any:
    """A convolution of what is padded so, and no more."""
    x = functional.pad(args[0], widths, how)
    return func(x, *args[1:4], [0] * len(args[4]), *args[5:])


def _bordered(how: str) -> Exchange:
    def exchange(kind: str, func: Op, args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
        if kind != "convolution" or args[6] or not any(args[4]):
            return None
        sides = args[0].shape[2:]
        if any(width >= side for width, side in zip(args[4], sides, strict=True)):
            return None  # nothing to reflect
        return _padded(func, args, _both_sides(args[4]), how)

    return exchange


def _strided(kind: str, func: Op, args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
    if kind != "convolution" or args[6] or not any(args[4]) or max(args[3]) < 2:
        return None
    x, weight, _, strides, padding, dilation = args[:6]
    widths: list[int] = []
    sizes = zip(x.shape[2:], weight.shape[2:], strides, padding, dilation, strict=True)
    for side, kernel, stride, width, apart in sizes:
        reach = (kernel - 1) * apart + 1
        made = -(-side // stride)
        if (side + 2 * width - reach) // stride + 1 != made:
            return None  # another size comes out
        total = max((made - 1) * stride + reach - side, 0)
        widths = [total // 2, total - total // 2, *widths]
    return _padded(func, args, widths, "constant")


def _repadded(how: str) -> Exchange:
    def exchange(kind: str, _func: Op, args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
        return functional.pad(args[0], list(args[1]), how) if kind == "padding" else None

    return exchange


def _evenly(kind: str, func: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if kind != "padding":
        return None
    pairs = zip(args[1][::2], args[1][1::2], strict=True)
    widths = [max(pair) for pair in pairs for _ in range(2)]
    return None if widths == list(args[1]) else func(args[0], widths, *args[2:], **kwargs)


def _resized(how: dict[str, Any]) -> Exchange:
    def exchange(kind: str, func: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if kind != "resize" or args[0].ndim != 4:
            return None
        size = func(*args, **kwargs).shape[2:]
        return functional.interpolate(args[0], size, **how)

    return exchange


def _averaged(kind: str, func: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if kind != "pooling" or "max_pool" not in func._schema.name:  # noqa: SLF001
        return None
    found = func(*args, **kwargs)
    x, kernel, *more = args
    stride, padding, _, ceil = _filled(more)
    mean = functional.avg_pool2d(x, kernel, stride or None, padding, ceil)
    return (mean, *found[1:]) if isinstance(found, tuple) else mean


def _filled(more: list[Any]) -> tuple[Any, ...]:
    """Stride, padding, dilation and whether sizes are rounded up, those left out included."""
    usual: tuple[Any, ...] = ([], 0, 1, False)
    return (*more, *usual[len(more) :])


def _largest(kind: str, func: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if kind != "pooling" or "avg_pool" not in func._schema.name:  # noqa: SLF001
        return None
    found = func(*args, **kwargs)
    x, kernel, *more = args
    stride, padding, ceil = (*more, *([], 0, False)[len(more) :])[:3]
    most = functional.max_pool2d(x, kernel, stride or None, padding, 1, ceil)
    return most if most.shape == found.shape else None
