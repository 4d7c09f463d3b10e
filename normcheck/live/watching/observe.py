"""What really runs in a forward: every normalization and every random draw, below the modules.

``F.batch_norm(..., training=True)``, ``F.dropout(x)`` and modules in a closure have no module
to find. The dispatcher sees the operator that each of them ends in, with its arguments; global
module hooks tell under which module it ran.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode

from normcheck.live.watching.batch_norm_call import BatchNormCall, Intervene
from normcheck.live.watching.operators import (
    EXCHANGED,
    TRAINING_AT,
    Op,
    drops,
    kind_of,
    on_average,
)
from normcheck.live.watching.own_values import address_of
from normcheck.live.watching.reachable_modules import Reached, reachable
from normcheck.live.watching.seen import CallSite, NormSeen, RandomSeen, Seen

Exchange = Callable[[str, Op, tuple[Any, ...], dict[str, Any]], Any]
"""Called with kind, operator and arguments; gives the result in its place, or None."""
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
        self.exchange: Exchange | None = None
        """Takes the place of operators that other code may have others for."""
        self.ran: Counter[str] = Counter()
        """How many of each kind of them there were."""
        self.without_dropout = False
        """Whether dropout gives what it gives on average: its input."""
        self.per_sample: set[CallSite] = set()
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
            kind = self._kinds[func] = kind_of(func)
        result = None
        if kind == "batch":
            result = self._batch_norm(func, args)
        elif kind in {"layer", "group"}:
            self._per_sample_norm(kind, args)
        elif kind == "noise":
            if len(args) > 4 and args[4]:  # its training flag
                self._random(func)
        elif kind == "random" or (kind == "attention" and drops(func, args, kwargs)):
            if self.without_dropout:
                result = on_average(func, args)
            if result is None:
                self._random(func)
        elif kind in EXCHANGED:
            self.ran[kind] += 1
            if self.exchange is not None:
                with torch.utils._python_dispatch._disable_current_modes():  # noqa: SLF001
                    result = self.exchange(kind, func, args, kwargs or {})
        if result is None:
            result = func(*args, **(kwargs or {}))
        if self.trace is not None:
            self.trace(self.path, func._schema.name, result)  # noqa: SLF001
        return result

    def _batch_norm(self, func: Op, args: tuple[Any, ...]) -> Any:
        name = func._schema.name  # noqa: SLF001
        at = TRAINING_AT[name]
        if func._overloadname == "no_stats":  # noqa: SLF001
            args = (*args[:3], None, None, *args[3:])  # as the other overload has them
        training = bool(args[at]) if at >= 0 else at == -1
        path = self._place(args[3], args[1])
        turn = self._turns.get(path, 0)
        self._turns[path] = turn + 1
        place = CallSite(path, turn)
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
        call = BatchNormCall(place, func, args, training, self.size)
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
