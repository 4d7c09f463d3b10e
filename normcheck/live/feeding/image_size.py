"""The size of images that a model's modules speak of.

Weights fix a size only where a linear layer stands behind flattened places; anything else is a
guess, from what designs have in common. It decides what made-up input looks like, never a verdict.
"""

import math
from collections.abc import Iterator
from typing import Any

from torch import nn

from normcheck.live.feeding.size_beside import LikelySize, sides_of

_NAMES = ("img_size", "image_size", "input_size", "im_size", "resolution", "crop_size")
_PHOTOGRAPH, _SMALL, _DIGIT = 224, 32, 28
"""Sides of the images of ImageNet as they are cropped, of CIFAR and of MNIST."""
_LARGE_KERNEL = 7
_PATCH = 4
"""Stride of a first convolution from which it cuts images into patches."""
_POSITIONS = (0, 1, 2, 4, 5)
"""Places of learned positions that are no patch's: of a class, of distillation, of registers."""


def stated_sizes(model: nn.Module) -> Iterator[LikelySize]:
    """Sizes that the model or its configuration states."""
    owners = (("", model), ("config.", getattr(model, "config", None)))
    for place, owner in (*owners, *((f"{n}.", child) for n, child in model.named_children())):
        for name in _NAMES:
            size = sides_of(getattr(owner, name, None)) if owner is not None else None
            if size is not None:
                yield LikelySize(*size, f"the model's {place}{name}")
    for name in ("pretrained_cfg", "default_cfg"):
        found: Any = getattr(model, name, None)
        if isinstance(found, dict) and (size := sides_of(found.get("input_size"))) is not None:
            yield LikelySize(*size, f"the model's {name}, input_size")


def likely_sizes(model: nn.Module) -> Iterator[LikelySize]:
    """Sizes of the training's images, as the layers suggest them, the surest first."""
    stem = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if stem is None:
        return
    kernel, stride = _side(stem.kernel_size), _side(stem.stride)
    words = f"the first convolution, {kernel}x{kernel} with stride {stride}"
    if stride == kernel and stride > 1:
        yield from _of_positions(model, stride)
    yield from _of_pooling(model)
    if stride >= _PATCH or kernel >= _LARGE_KERNEL or stride == 2:
        yield LikelySize(_PHOTOGRAPH, _PHOTOGRAPH, f"{words}, as of photographs")
    elif stem.in_channels == 1:
        yield LikelySize(_DIGIT, _DIGIT, f"{words} on one channel, as of small grey images")
    else:
        yield LikelySize(_SMALL, _SMALL, f"{words}, as of small images")


def _side(value: Any) -> int:
    return int(max(value)) if isinstance(value, tuple) else int(value)


def _of_positions(model: nn.Module, patch: int) -> Iterator[LikelySize]:
    """Learned positions, one for each patch: ``(1, n, d)`` or ``(n, d)``."""
    for name, parameter in model.named_parameters():
        if "pos" not in name.rpartition(".")[2] and "position" not in name:
            continue
        if parameter.ndim not in (2, 3) or (parameter.ndim == 3 and parameter.shape[0] != 1):
            continue
        for others in _POSITIONS:
            across = math.isqrt(max(0, int(parameter.shape[-2]) - others))
            if across > 1 and across * across == int(parameter.shape[-2]) - others:
                side = across * patch
                why = f"{name}, {across} x {across} positions of patches of {patch}"
                yield LikelySize(side, side, why)
                return


def _of_pooling(model: nn.Module) -> Iterator[LikelySize]:
    """Pooling to several places, behind layers in one line whose strides multiply."""
    stride = 1
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            stride *= _side(module.stride)
        elif isinstance(module, nn.AdaptiveAvgPool2d):
            size: Any = module.output_size
            across = _side(tuple(s or 1 for s in size)) if isinstance(size, tuple) else size
            if across and across > 1 and sides_of(across * stride) is not None:
                side = across * stride
                why = f"pooling to {across} x {across} behind strides of {stride} together"
                yield LikelySize(side, side, why)
            return
