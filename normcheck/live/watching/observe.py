"""What really runs in a forward: every normalization and every random draw, below the modules.

``F.batch_norm(..., training=True)``, ``F.dropout(x)`` and modules in a closure have no module
to find. The dispatcher sees the operator that each of them ends in, with its arguments; global
module hooks tell under which module it ran.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode

from normcheck.live.watching.own_values import address_of
from normcheck.live.watching.reachable_modules import Reached, reachable

Op = Any  # torch._ops.OpOverload, which has no public name

_TRAINING_AT = {
    "aten::native_batch_norm": 5,
    "aten::cudnn_batch_norm": 5,
    "aten::miopen_batch_norm": 5,
    "aten::_native_batch_norm_legit": 5,
    "aten::_batch_norm_with_update": -1,
    "aten::_native_batch_norm_legit_no_training": -2,
    "aten::_batch_norm_no_update": -2,
}
"""Batch norm operators and where their training flag is: -1 always on, -2 always off."""
_RESULTS = {"aten::cudnn_batch_norm": 4, "aten::_batch_norm_no_update": 4}
"""Values that an operator returns, where these are not three."""
_LAYER_NORMS = frozenset({"aten::native_layer_norm"})
_GROUP_NORM = "aten::native_group_norm"
_RANDOM = frozenset(
    f"aten::{name}"
    for name in (
        "bernoulli", "bernoulli_", "native_dropout", "_fused_dropout", "rand", "rand_like",
        "randn", "randn_like", "randint", "randint_like", "randperm", "normal", "normal_",
        "normal_functional", "uniform", "uniform_", "exponential_", "log_normal_", "cauchy_",
        "geometric_", "multinomial", "poisson", "random_",
    )
)  # fmt: skip
_ACTIVATIONS = frozenset(
    f"aten::{name}{in_place}"
    for name in (
        "relu", "leaky_relu", "silu", "gelu", "hardswish", "hardtanh", "elu", "mish", "softplus",
    )
    for in_place in ("", "_")
)  # fmt: skip
_ATTENTION = "aten::_scaled_dot_product"


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a forward an operator ran."""

    path: str
    """Of the innermost module that was running."""
    turn: int
    """Which batch norm it was under this module, counted from 0 within one forward."""


@dataclass(slots=True)
class NormSeen:
    """One normalization that ran, over all forwards that were watched."""

    path: str
    op: str
    """``batch_norm``, ``layer_norm``, ``group_norm`` or ``instance_norm``."""
    training: bool | None
    """The flag that the operator was really given; None where it has none."""
    calls: int = 0
    shape: tuple[int, ...] = ()
    """Of its input, the last time."""
    values: int = 0
    """Numbers that one mean is taken over, the last time."""
    per_sample: bool = False
    """A batch norm operator over something without a batch: an instance norm, a weight."""
    updates: bool = False
    """Whether it was given statistics to update."""


@dataclass(slots=True)
class RandomSeen:
    """One kind of random draw under one module."""

    path: str
    op: str
    calls: int = 0


@dataclass(slots=True)
class Seen:
    """All that was watched."""

    norms: dict[tuple[str, str, bool | None], NormSeen] = field(default_factory=dict)
    random: dict[tuple[str, str], RandomSeen] = field(default_factory=dict)
    called: dict[str, int] = field(default_factory=dict)
    """Modules and how often their forward was called."""
    strays: dict[int, tuple[str, nn.Module]] = field(default_factory=dict)
    """Modules that were called and hang in no module's attributes, by identity."""


@dataclass(frozen=True, slots=True, eq=False)
class BatchNormCall:
    """A batch norm that is about to run."""

    place: Place
    op: Op
    args: tuple[Any, ...]
    training: bool

    @property
    def input(self) -> Tensor:
        """``(N, C, …)``."""
        tensor: Tensor = self.args[0]
        return tensor

    @property
    def statistics(self) -> tuple[Tensor | None, Tensor | None]:
        """The running mean and variance that it was given."""
        if len(self.args) >= 7 or _TRAINING_AT[self.op._schema.name] < 0:  # noqa: SLF001
            return self.args[3], self.args[4]
        return None, None

    @property
    def eps(self) -> float:
        """What is added to the variance."""
        cudnn = self.op._schema.name == "aten::cudnn_batch_norm"  # noqa: SLF001
        return float(self.args[7] if cudnn else self.args[-1])

    def with_batch_statistics(self, eps: float | None = None) -> Any:
        """What it gives with the statistics of its own input, without an update.

        Args:
            eps: Another one than its own.
        """
        return self._result(None, None, training=True, eps=eps)

    def with_group_statistics(self, size: int) -> Any:
        """What it gives with the statistics of ``size`` samples at a time, without an update.

        As forwards of so many samples each would give, in one. A last single sample goes with
        the group before it, as in :func:`normcheck.live.batches.split`.
        """
        x = self.input
        if len(x) <= size:
            return self.with_batch_statistics()
        starts = list(range(0, len(x), size))
        if size > 1 and len(x) - starts[-1] == 1:
            starts.pop()
        ends = [*starts[1:], len(x)]
        parts = [
            replace(self, args=(x[start:end], *self.args[1:])).with_batch_statistics()
            for start, end in zip(starts, ends, strict=True)
        ]
        return (torch.cat([part[0] for part in parts]), *parts[-1][1:])

    def with_statistics(self, mean: Tensor, variance: Tensor) -> Any:
        """What it gives with these statistics."""
        x = self.input
        kind = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
        return self._result(mean.to(x.device, kind), variance.to(x.device, kind), training=False)

    def _result(
        self,
        mean: Tensor | None,
        variance: Tensor | None,
        *,
        training: bool,
        eps: float | None = None,
    ) -> Any:
        weight, bias, x = self.args[1], self.args[2], self.input
        if mean is not None and weight is not None and weight.dtype != mean.dtype:
            weight, bias = weight.to(mean.dtype), None if bias is None else bias.to(mean.dtype)
        eps = self.eps if eps is None else eps
        out = torch.native_batch_norm(x, weight, bias, mean, variance, training, 0.0, eps)
        if _RESULTS.get(self.op._schema.name) == 4:  # noqa: SLF001
            return (*out, torch.empty(0, dtype=torch.uint8, device=x.device))
        return out


Intervene = Callable[[BatchNormCall], Any]
"""Called for every batch norm over the batch; returns its result, or None to let it run."""
Activation = Callable[[Tensor], Tensor]
"""What an activation gives for its input."""
Trace = Callable[[str, str, Any], None]
"""Called after every operator with module path, operator and result."""


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Sees the operators of one forward after another.

    Use as ``with watching(model, size) as watch:`` around forwards of batches of one size.
    """

    def __init__(
        self, size: int, paths: dict[int, str], owners: Mapping[int, str] | None = None
    ) -> None:
        """For forwards of ``size`` samples through modules of these names.

        Args:
            size: Samples in each batch.
            paths: Of modules, by identity.
            owners: Modules by the address of their tensors, for code that calls no modules.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = Seen()
        self.size = size
        self.intervene: Intervene | None = None
        self.trace: Trace | None = None
        self.activation: Activation | None = None
        """Takes the place of every activation."""
        self.activations = 0
        """How many ran."""
        self.without_dropout = False
        """Whether dropout gives what it gives on average: its input."""
        self.per_sample: set[Place] = set()
        """Places known from larger batches to normalise each sample apart."""
        self._paths = paths
        self._owners = owners or {}
        self._stack: list[str] = []
        self._turns: dict[str, int] = {}
        self._kinds: dict[Op, str] = {}

    @property
    def path(self) -> str:
        """Of the innermost module that is running."""
        return self._stack[-1] if self._stack else ""

    def enter(self, module: nn.Module, args: Any) -> None:
        """A module's forward begins."""
        path = self._paths.get(id(module))
        if path is None:
            name = type(module).__name__
            path = f"{self.path}.{name}" if self.path else name
            self.seen.strays[id(module)] = (path, module)
        if not self._stack:
            self._turns.clear()
        self.seen.called[path] = self.seen.called.get(path, 0) + 1
        self._stack.append(path)
        if isinstance(module, nn.RMSNorm):
            self._rms_norm(module, path, args)

    def leave(self, _module: nn.Module, _args: object, _output: object) -> None:
        """A module's forward ended, well or not."""
        if self._stack:
            self._stack.pop()

    def __torch_dispatch__(
        self, func: Op, _types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """One operator."""
        kind = self._kinds.get(func)
        if kind is None:
            kind = self._kinds[func] = _kind(func)
        result = None
        if kind == "batch":
            result = self._batch_norm(func, args)
        elif kind in {"layer", "group"}:
            self._per_sample_norm(kind, args)
        elif kind == "noise":
            if len(args) > 4 and args[4]:  # its training flag
                self._random(func)
        elif kind == "random" or (kind == "attention" and _drops(func, args, kwargs)):
            if self.without_dropout:
                result = _on_average(func, args)
            if result is None:
                self._random(func)
        elif kind == "activation":
            self.activations += 1
            if self.activation is not None:
                result = self._activated(func, args[0])
        if result is None:
            result = func(*args, **(kwargs or {}))
        if self.trace is not None:
            self.trace(self.path, func._schema.name, result)  # noqa: SLF001
        return result

    def _activated(self, func: Op, x: Tensor) -> Tensor | None:
        if self.activation is None:
            return None
        in_place = func._schema.name.endswith("_")  # noqa: SLF001
        with torch.utils._python_dispatch._disable_current_modes():  # noqa: SLF001
            found = self.activation(x)
            return x.copy_(found) if in_place else found

    def _batch_norm(self, func: Op, args: tuple[Any, ...]) -> Any:
        name = func._schema.name  # noqa: SLF001
        at = _TRAINING_AT[name]
        if func._overloadname == "no_stats":  # noqa: SLF001
            args = (*args[:3], None, None, *args[3:])  # as the other overload has them
        training = bool(args[at]) if at >= 0 else at == -1
        path = self._place(args[3], args[1])
        turn = self._turns.get(path, 0)
        self._turns[path] = turn + 1
        place = Place(path, turn)
        x: Tensor = args[0]
        alone = (x.shape[0] == 1 and self.size > 1) or place in self.per_sample
        if alone:
            self.per_sample.add(place)
        op = "instance_norm" if alone else "batch_norm"
        entry = self.seen.norms.setdefault((path, op, training), NormSeen(path, op, training))
        entry.calls += 1
        entry.shape = tuple(x.shape)
        entry.values = x.numel() // max(1, x.shape[1])
        entry.per_sample = alone
        entry.updates = entry.updates or (training and args[3] is not None)
        if alone or self.intervene is None:
            return None
        call = BatchNormCall(place, func, args, training)
        # What an intervention computes is not the model's, and is not to be watched.
        with torch.utils._python_dispatch._disable_current_modes():  # noqa: SLF001
            return self.intervene(call)

    def _place(self, *tensors: object) -> str:
        """The module that runs, or in TorchScript the one that the first known tensor is of."""
        if self._owners:
            for tensor in tensors:
                if isinstance(tensor, Tensor) and tensor.numel():
                    place = address_of(tensor)
                    owner = None if place is None else self._owners.get(place)
                    if owner is not None:
                        return owner
        return self.path

    def _rms_norm(self, module: nn.RMSNorm, path: str, args: Any) -> None:
        """Noted by its module: on CPUs it has no operator of its own."""
        entry = self.seen.norms.setdefault(
            (path, "rms_norm", None), NormSeen(path, "rms_norm", None)
        )
        entry.calls += 1
        entry.per_sample = True
        entry.values = math.prod(module.normalized_shape)
        if args and isinstance(args[0], Tensor):
            entry.shape = tuple(args[0].shape)

    def _per_sample_norm(self, kind: str, args: tuple[Any, ...]) -> None:
        x: Tensor = args[0]
        path = self._place(args[2] if kind == "layer" else args[1])
        op = f"{kind}_norm"
        entry = self.seen.norms.setdefault((path, op, None), NormSeen(path, op, None))
        entry.calls += 1
        entry.shape = tuple(x.shape)
        entry.per_sample = True
        if kind == "layer":
            entry.values = 1
            for length in args[1]:
                entry.values *= length
        else:
            entry.values = int(args[4]) * int(args[5]) // max(1, int(args[6]))

    def _random(self, func: Op) -> None:
        name = func._schema.name.removeprefix("aten::")  # noqa: SLF001
        entry = self.seen.random.setdefault((self.path, name), RandomSeen(self.path, name))
        entry.calls += 1


def _kind(func: Op) -> str:
    name = func._schema.name  # noqa: SLF001
    if name in _TRAINING_AT:
        return "batch"
    if name in _LAYER_NORMS:
        return "layer"
    if name == _GROUP_NORM:
        return "group"
    if name in _RANDOM:
        return "random"
    if name.startswith("aten::rrelu_with_noise"):
        return "noise"
    if name in _ACTIVATIONS:
        return "activation"
    return "attention" if name.startswith(_ATTENTION) else "other"


def _on_average(func: Op, args: tuple[Any, ...]) -> Any:
    """What a draw of a dropout gives on average; None for draws that are no dropout's.

    Dropout draws a mask of zeros and ones with the probability of keeping, and divides it by
    the same: filled with that probability, the mask becomes 1 everywhere.
    """
    name = func._schema.name  # noqa: SLF001
    if name == "aten::bernoulli_" and func._overloadname == "float":  # noqa: SLF001
        return args[0].fill_(args[1] if len(args) > 1 else 0.5)
    if name == "aten::native_dropout":
        return args[0].clone(), torch.ones_like(args[0], dtype=torch.bool)
    return None


def _drops(func: Op, args: tuple[Any, ...], kwargs: Any) -> bool:
    """Whether a fused attention drops anything."""
    for number, argument in enumerate(func._schema.arguments):  # noqa: SLF001
        if argument.name == "dropout_p":
            value = args[number] if number < len(args) else (kwargs or {}).get("dropout_p", 0.0)
            return bool(value)
    return False


def _owners(entries: list[Reached]) -> dict[int, str]:
    """Modules of TorchScript by their tensors: its interpreter calls them past all hooks."""
    return {
        place: entry.path
        for entry in entries
        if isinstance(entry.module, torch.jit.ScriptModule)
        for tensor in (
            *entry.module.parameters(recurse=False), *entry.module.buffers(recurse=False)
        )
        if (place := address_of(tensor)) is not None
    }  # fmt: skip


@contextmanager
def watching(model: nn.Module, size: int, reached: list[Reached] | None = None) -> Iterator[Watch]:
    """Watch the forwards inside.

    Args:
        model: Whose modules give the names.
        size: Samples in each batch that is fed.
        reached: Its modules where they are known already.
    """
    entries = reachable(model) if reached is None else reached
    watch = Watch(size, {id(entry.module): entry.path for entry in entries}, _owners(entries))
    hooks = [
        register_module_forward_pre_hook(watch.enter),
        register_module_forward_hook(watch.leave, always_call=True),
    ]
    try:
        with watch:
            yield watch
    finally:
        for hook in hooks:
            hook.remove()
