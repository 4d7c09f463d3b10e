"""Where forwards enter a model: hooks on few modules, whatever the depth of the model.

A loop calls the model, or, as trainers do whose model is wrapped in a module of theirs, some of its
children. The outermost of these calls is a forward; calls within it only count its depth.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from normcheck.integrations.guard.watched_norms import WatchedNorm

_WRAPPERS = frozenset({"DistributedDataParallel", "FullyShardedDataParallel"})
"""Classes that call the module in them, and synchronise before that."""
_ALONE = frozenset({"OptimizedModule", "DataParallel"})
"""Classes whose inside is compiled, or runs in several threads: hooked from outside alone."""


class Quiet:
    """A hook that is no part of the model: a copy or a pickle of the model has none of it."""

    __slots__ = ("_hook",)

    def __init__(self, hook: Callable[..., None]) -> None:
        """Stand for a hook, where a module keeps it.

        Args:
            hook: Returns nothing, so it changes nothing.
        """
        self._hook = hook

    def __call__(self, *words: Any) -> None:
        """Pass the call on; not while the model is being compiled."""
        if not torch.compiler.is_compiling():
            self._hook(*words)

    def __deepcopy__(self, _memo: object) -> Callable[..., None]:
        """What a copy has in its place: it does nothing."""
        return _nothing()

    def __reduce__(self) -> tuple[Any, ...]:
        """What a pickle has in its place, which can be read without normcheck."""
        return functools.partial, (sys.audit, "hook")


def _nothing() -> Callable[..., None]:
    # The one function of Python's that takes any arguments, returns None and can be pickled.
    return functools.partial(sys.audit, "hook")


class WatchedModule:
    """A module whose call may be a forward, and what was seen of it since the last step."""

    __slots__ = ("burst", "forwards", "module", "norms", "taught")

    def __init__(self, module: nn.Module, norms: Sequence[WatchedNorm]) -> None:
        """Nothing seen yet.

        Args:
            module: Is hooked.
            norms: Within it.
        """
        self.module = module
        self.norms = norms
        self.forwards = 0
        """Since the last step, backward passes aside."""
        self.burst = 0
        """Forwards without gradients since the last step."""
        self.taught = False
        """Whether it ever ran with gradients: a teacher never does."""


class Entries:
    """All places where forwards enter a model."""

    def __init__(
        self,
        model: nn.Module,
        norms: Sequence[WatchedNorm],
        before: Callable[[WatchedModule, tuple[Any, ...]], None],
        after: Callable[[WatchedModule], None],
    ) -> None:
        """Hook them.

        Args:
            model: The whole.
            norms: Its norms; parts without any are not hooked.
            before: Told of a forward that begins, with its inputs.
            after: Told of its end.
        """
        self._depth = 0
        self._before = before
        self._after = after
        self._handles: list[RemovableHandle] = []
        self.entries = [
            WatchedModule(module, [norm for norm in norms if _holds(module, norm)])
            for module in _modules(model, {id(norm.module) for norm in norms})
        ]
        for entry in self.entries:
            enter, leave = Quiet(self._entering(entry)), Quiet(self._leaving(entry))
            self._handles += [
                entry.module.register_forward_pre_hook(enter),
                entry.module.register_forward_hook(leave, always_call=True),
            ]

    def close(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _entering(self, entry: WatchedModule) -> Callable[..., None]:
        def enter(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            self._depth += 1
            if self._depth == 1:
                try:
                    self._before(entry, inputs)
                except BaseException:
                    self._depth = 0
                    raise

        return enter

    def _leaving(self, entry: WatchedModule) -> Callable[..., None]:
        def leave(*_words: Any) -> None:
            # A forward that raised may have left calls within it open.
            self._depth = max(0, self._depth - 1)
            if self._depth == 0:
                self._after(entry)

        return leave


def in_backward() -> bool:
    """Whether a backward pass is running, which recomputes what was checkpointed."""
    return bool(torch._C._current_graph_task_id() != -1)  # noqa: SLF001  (no public name for it)


def core_of(model: nn.Module) -> nn.Module:
    """The model within what distributes it."""
    while type(model).__name__ in _WRAPPERS and isinstance(model.module, nn.Module):
        model = model.module
    return model


def _modules(model: nn.Module, norms: set[int]) -> Iterator[nn.Module]:
    """The model, and those of its children that hold norms."""
    model = core_of(model)
    if not isinstance(model, nn.ModuleList | nn.ModuleDict):
        yield model
    if type(model).__name__ in _ALONE:
        return
    for child in model.children():
        if id(child) in norms or not any(id(module) in norms for module in child.modules()):
            continue
        if isinstance(child, nn.ModuleList | nn.ModuleDict) or type(child).__name__ in _WRAPPERS:
            yield from _modules(child, norms)
        else:
            yield child


def _holds(module: nn.Module, norm: WatchedNorm) -> bool:
    return any(part is norm.module for part in module.modules())
