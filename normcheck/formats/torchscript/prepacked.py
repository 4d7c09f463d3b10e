"""Weights that ``torch.utils.mobile_optimizer`` packed into operators of XNNPACK.

The code then calls ``ops.prepacked.conv2d_clamp_run(x, CONSTANTS.c0)``, and the constant is an
object of a class of C++, whose state holds the weights as they were, what a convolution needs
besides, and the bounds of an activation that was fused. Names and order are those of
``aten/src/ATen/native/xnnpack`` in PyTorch.
"""

from collections.abc import Mapping

from normcheck.formats.torchscript.script_code import is_plain
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.pickles.inert import GlobalName, Inert
from normcheck.pickles.torch_objects import as_tensor
from normcheck.saved.tensors import TensorRef

_CLASSES = "__torch__.torch.classes.xnnpack."
_BOUNDS = ("min", "max")
_STATES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "Conv2dOpContext": (
        "conv2d", ("weight", "bias", "stride", "padding", "dilation", "groups", *_BOUNDS)
    ),
    "TransposeConv2dOpContext": (
        "conv_transpose2d",
        ("weight", "bias", "stride", "padding", "output_padding", "dilation", "groups", *_BOUNDS),
    ),
    "LinearOpContext": ("linear", ("weight", "bias", *_BOUNDS)),
}  # fmt: skip
"""The operator of ATen that each class packs, and what its state holds, in order."""
_LIST = "torch.jit._pickle.build_intlist"
_LONGEST_LIST = 8


@lazy_dataclass(eq=False)
class Packed:
    """One of these objects, by the name of its constant."""

    name: str
    operator: str
    """Of ATen, without its activation."""
    tensors: Mapping[str, TensorRef]
    """``weight`` and, where there is one, ``bias``."""
    settings: Mapping[str, object]
    """Further arguments of the operator, by name."""
    bounds: Mapping[str, float]
    """``min`` and ``max`` of what its result is clamped to; empty where it is not."""


def packed(held: object, name: str) -> Packed | None:
    """What a constant packs; None for any that packs nothing.

    Args:
        held: As its pickle describes it.
        name: Of the constant, as ``CONSTANTS.c0``.
    """
    if not isinstance(held, Inert) or not held.class_path.startswith(_CLASSES):
        return None
    operator, parts = _STATES.get(held.class_path.removeprefix(_CLASSES), ("", ()))
    if not isinstance(held.state, tuple) or len(held.state) != len(parts):
        return None
    state = dict(zip(parts, held.state, strict=True))
    tensors = {p: t for p in ("weight", "bias") if (t := as_tensor(state.pop(p))) is not None}
    bounds = {p: state.pop(p) for p in _BOUNDS}
    if "weight" not in tensors:
        return None
    return Packed(
        name,
        operator,
        tensors,
        {part: _plain(value) for part, value in state.items()},
        {part: float(bound) for part, bound in bounds.items() if isinstance(bound, int | float)},
    )


def _plain(value: object) -> object:
    """A number, or the numbers of a list; None for what is neither."""
    if isinstance(value, Inert) and isinstance(value.cls, GlobalName) and value.class_path == _LIST:
        numbers = value.args[0] if value.args else ()
        if isinstance(numbers, list | tuple) and len(numbers) <= _LONGEST_LIST:
            return tuple(number if type(number) is int else None for number in numbers)
        return None
    return value if is_plain(value) else None
