"""Norms over the wrong axis: their features are not the channels of what they are given.

Told by where the input comes from. A convolution puts channels in dimension 1, a linear layer
in the last one; the memory layout follows them through transposes and reshapes, which only
change how the same memory is looked at.
"""

from collections import OrderedDict
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.batches import Batch
from normcheck.live.measurement import WrongAxis
from normcheck.live.watching.forward import Forward, Interrupted
from normcheck.live.watching.observe import Watch, watching
from normcheck.live.watching.own_values import own_memory
from normcheck.live.watching.reachable_modules import Reached

_CONVOLUTIONS = frozenset({"aten::convolution", "aten::mkldnn_convolution", "aten::_convolution"})
_PRODUCTS = frozenset({"aten::mm", "aten::addmm", "aten::bmm", "aten::linear", "aten::embedding"})
_POINTWISE = frozenset(
    f"aten::{name}"
    for name in (
        "relu", "relu_", "gelu", "silu", "silu_", "leaky_relu", "leaky_relu_", "elu", "hardswish",
        "hardtanh", "sigmoid", "tanh", "add", "add_", "mul", "sub", "div", "clone", "_to_copy",
        "native_dropout", "mish", "softplus",
    )
)  # fmt: skip
"""Operators that keep the meaning of every axis."""
_BATCH_NORMS = frozenset(
    {"aten::native_batch_norm", "aten::cudnn_batch_norm", "aten::_native_batch_norm_legit"}
)
_KEPT = 32
"""Results that are remembered: norms follow closely on what feeds them."""


@lazy_dataclass()
class _Origin:
    """What made a piece of memory, and where its channels lie in it."""

    producer: str
    channels: int
    stride: int
    """Between neighbouring channels, in elements."""


class _Axes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Follows channels from convolutions and linear layers to norms."""

    def __init__(self, watch: Watch, norm_paths: frozenset[str], kinds: dict[str, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: dict[str, WrongAxis] = {}
        self._watch = watch
        self._norm_paths = norm_paths
        self._kinds = kinds
        self._origins: OrderedDict[int, tuple[_Origin, Tensor]] = OrderedDict()

    def __torch_dispatch__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func._schema.name  # noqa: SLF001
        if name in _BATCH_NORMS:
            self._batch_norm(args[0])
        elif name == "aten::native_layer_norm":
            self._layer_norm(args[0], len(args[1]))
        elif name == "aten::native_group_norm":
            self._batch_norm(args[0])
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self._note(name, args, result)
        return result

    def _note(self, name: str, args: tuple[Any, ...], result: Tensor) -> None:
        if name in _CONVOLUTIONS and result.ndim >= 3:
            self._keep(result, _Origin("convolution", result.shape[1], result.stride(1)))
        elif name in _PRODUCTS and result.ndim >= 2:
            self._keep(result, _Origin("linear", result.shape[-1], result.stride(-1)))
        elif name in _POINTWISE and isinstance(args[0], Tensor):
            origin = self._origin(args[0])
            if origin and args[0].shape == result.shape and args[0].stride() == result.stride():
                self._keep(result, origin)

    def _keep(self, tensor: Tensor, origin: _Origin) -> None:
        memory = own_memory(tensor)
        if memory is None:  # a wrapper: its address would be that of any other
            return
        pointer = memory.data_ptr()
        # Held, so that the memory is not given to another tensor meanwhile.
        self._origins[pointer] = (origin, tensor)
        self._origins.move_to_end(pointer)
        while len(self._origins) > _KEPT:
            self._origins.popitem(last=False)

    def _origin(self, tensor: Tensor) -> _Origin | None:
        memory = own_memory(tensor)
        entry = None if memory is None else self._origins.get(memory.data_ptr())
        return entry[0] if entry else None

    def _channel_axis(self, tensor: Tensor) -> tuple[_Origin, int] | None:
        """The dimension along which the channels lie; None where that is not unique."""
        origin = self._origin(tensor)
        if origin is None or origin.channels < 2:
            return None
        axes = [
            axis
            for axis in range(tensor.ndim)
            if tensor.shape[axis] == origin.channels and tensor.stride(axis) == origin.stride
        ]
        return (origin, axes[0]) if len(axes) == 1 else None

    def _batch_norm(self, tensor: Tensor) -> None:
        known = self._channel_axis(tensor)
        if known is not None and known[1] > 1 and tensor.shape[1] > 1:
            self._accuse(tensor, known[0], known[1], (1,))

    def _layer_norm(self, tensor: Tensor, dimensions: int) -> None:
        known = self._channel_axis(tensor)
        normalised = tuple(range(tensor.ndim - dimensions, tensor.ndim))
        # A linear layer over another axis is how mixers mix tokens: their norms are right.
        convolved = known is not None and known[0].producer == "convolution"
        if known is not None and convolved and known[1] not in normalised and known[1] > 0:
            self._accuse(tensor, known[0], known[1], normalised)

    def _accuse(
        self, tensor: Tensor, origin: _Origin, axis: int, normalised: tuple[int, ...]
    ) -> None:
        path = self._watch.path
        if path in self._norm_paths:
            self.found.setdefault(
                path,
                WrongAxis(
                    path, self._kinds.get(path, "norm"), tuple(tensor.shape), axis, normalised,
                    origin.producer,
                ),
            )  # fmt: skip


def wrong_axes(
    forward: Forward, reached: list[Reached], batch: Batch, norm_paths: frozenset[str]
) -> tuple[WrongAxis, ...]:
    """Norms whose features lie across the channels of their input, in one forward.

    Args:
        forward: Runs the model.
        reached: Its modules.
        batch: What to feed.
        norm_paths: Of the modules that are normalization layers.
    """
    kinds = {entry.path: type(entry.module).__name__ for entry in reached}
    with watching(forward.model, batch.size, reached) as watch:
        axes = _Axes(watch, norm_paths, kinds)
        try:
            with axes:
                forward(batch)
        except Interrupted:
            return ()
    return tuple(axes.found.values())
