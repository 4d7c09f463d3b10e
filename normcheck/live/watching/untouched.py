"""A probe that leaves no trace: everything is put back, bit for bit, also when it raises.

What is put back: each module's class, attributes and their plain containers (so modes, hooks,
buffers, cached tensors, counters), the values, gradients and ``requires_grad`` of every tensor
in them, random number generators, grad mode, autocast and the other switches of torch that a
forward can flip. Registered and hidden modules alike, and the objects of the user's that hang
on them. Not put back: the inside of objects of other libraries (a file, a logger), and what a
forward does outside of this process.
"""

import random
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.nn.utils import parametrize

from normcheck.live.watching.own_values import inner_tensors, is_sparse_or_nested, own_memory
from normcheck.live.watching.reachable_modules import own_attributes, reachable, slots_of
from normcheck.live.watching.sharded_modules import sharding_undone
from normcheck.live.watching.torch_state import Undo, bound, container, global_state

_MOST = 1_000_000
"""Entries of containers that are remembered: beyond, an attribute is data, not state."""


@contextmanager
def untouched(*models: nn.Module) -> Iterator[None]:
    """Run what is inside, then put the models and torch's global state back as they were.

    Args:
        models: The modules that the body will run or change.

    Yields:
        Nothing; the body may do with the models what it likes.
    """
    switches, state = global_state(), _models(models)
    try:
        yield
    finally:
        # Tensors were remembered last and come back first: the attributes that hold them
        # follow, and then the switches, which no_grad() would set once more when it ends.
        with torch.no_grad():
            failed = _undone(state)
        failed += _undone(switches)
        if failed:
            raise failed[0]


def _undone(steps: list[Undo]) -> list[Exception]:
    """Undo all, the last first; one step that fails must not cost the others."""
    failed = []
    for step in reversed(steps):
        try:
            step()
        except Exception as error:  # raised when all else is back
            failed.append(error)
    return failed


def _models(models: Iterable[nn.Module]) -> list[Undo]:
    containers: list[Undo] = []
    tensors: dict[int, Tensor] = {}
    generators: list[Undo] = []
    sharding: list[Undo] = []
    seen: set[int] = set()
    for model in models:
        for entry in reachable(model):
            if id(entry.module) in seen:
                continue
            seen.add(id(entry.module))
            containers.append(_module(entry.module))
            if (undo := sharding_undone(entry.module)) is not None:
                sharding.append(undo)
            for value in list(vars(entry.module).values()):
                _remember(value, containers, tensors, generators, seen)
    storages: dict[int, Undo] = {}
    flags = [_tensor(tensor, storages) for tensor in tensors.values()]
    # What is gathered from other processes goes back first: it registers other parameters.
    return [*generators, *containers, *storages.values(), *flags, *sharding]


def _module(module: nn.Module) -> Undo:
    kept, cls = dict(vars(module)), type(module)
    # A parametrization makes a class of its own for the module, with a property for each
    # parametrized tensor; removing the parametrization deletes the property there.
    properties = {
        name: value
        for name, value in (vars(cls) if parametrize.is_parametrized(module) else {}).items()
        if isinstance(value, property)
    }

    def undo() -> None:
        for name, value in properties.items():
            if vars(cls).get(name) is not value:
                setattr(cls, name, value)
        if type(module) is not cls:  # a lazy module that became what it stands for
            module.__class__ = cls
        now = vars(module)
        if list(now) != list(kept) or any(now[name] is not value for name, value in kept.items()):
            now.clear()
            now.update(kept)

    return undo


def _remember(
    root: object,
    containers: list[Undo],
    tensors: dict[int, Tensor],
    generators: list[Undo],
    seen: set[int],
) -> None:
    stack = [root]
    while stack:
        value = stack.pop()
        if isinstance(value, Tensor):
            if id(value) not in tensors:
                tensors[id(value)] = value
                stack.extend(_behind(value))
            continue
        if id(value) in seen or isinstance(value, nn.Module | type | str | bytes | int | float):
            continue
        if isinstance(value, dict | list | set | deque):
            seen.add(id(value))
            containers.append(container(value))
            if len(value) <= _MOST:
                stack.extend(value.values() if isinstance(value, dict) else value)
        elif isinstance(value, tuple):
            seen.add(id(value))
            stack.extend(value)
        elif isinstance(value, np.ndarray):
            seen.add(id(value))
            containers.append(_array(value))
        elif isinstance(value, torch.Generator):
            generators.append(bound(value.set_state, value.get_state()))
        elif isinstance(value, random.Random):
            generators.append(bound(value.setstate, value.getstate()))
        elif isinstance(value, np.random.Generator):
            generators.append(_numpy_generator(value))
        else:
            if (attributes := own_attributes(value)) is not None:
                stack.append(attributes)
            for name, item in slots_of(value):
                containers.append(_slot(value, name, item))
                stack.append(item)


def _slot(owner: object, name: str, kept: object) -> Undo:
    def undo() -> None:
        if getattr(owner, name, None) is not kept:
            setattr(owner, name, kept)

    return undo


def _numpy_generator(generator: np.random.Generator) -> Undo:
    kept = generator.bit_generator.state

    def undo() -> None:
        generator.bit_generator.state = kept

    return undo


def _array(array: "np.ndarray[Any, Any]") -> Undo:
    kept = array.copy()

    def undo() -> None:
        if array.flags.writeable:
            array[...] = kept

    return undo


def _behind(tensor: Tensor) -> Iterator[Tensor]:
    """What belongs to a tensor: its gradient, and the tensors that a wrapper is made of."""
    with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001  (no code of the class)
        grad = tensor.grad if tensor.is_leaf else None
    if grad is not None:
        yield grad
    yield from inner_tensors(tensor)


def _tensor(tensor: Tensor, storages: dict[int, Undo]) -> Undo:
    """Its place in memory, its gradient and flag; the memory itself once for all its views."""
    with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001  (no code of the class)
        cls, leaf, requires_grad = type(tensor), tensor.is_leaf, tensor.requires_grad
        grad = tensor.grad if leaf else None
    alias: Tensor | None = None
    lazy = isinstance(
        tensor, UninitializedParameter | UninitializedBuffer
    )  # it has no values yet, nor a shape
    storage = None if lazy else own_memory(tensor, freed=True)
    if storage is not None:
        with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001
            alias = tensor.detach()
        if storage._cdata not in storages:  # noqa: SLF001
            # _cdata is the storage's identity: data_ptr is 0 for every empty one.
            storages[storage._cdata] = _storage(alias, storage)  # noqa: SLF001
    elif not lazy and is_sparse_or_nested(tensor):
        # No storage that could be had: kept whole.
        alias = tensor.detach().clone()

    def undo() -> None:
        with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001  (no code of the class)
            if type(tensor) is not cls:  # a lazy parameter that got its values
                tensor.data = torch.empty(0, device=tensor.device)
                tensor.__class__ = cls
            elif alias is not None and not _same_place(tensor, alias):
                tensor.data = alias
            if leaf:
                if not tensor.is_leaf:
                    tensor.detach_()  # a buffer that was updated together with its graph
                if tensor.requires_grad is not requires_grad:
                    tensor.requires_grad_(requires_grad)
                if tensor.grad is not grad:
                    tensor.grad = grad

    return undo


def _same_place(tensor: Tensor, alias: Tensor) -> bool:
    first, second = own_memory(tensor, freed=True), own_memory(alias, freed=True)
    return (
        first is not None
        and second is not None
        and first._cdata == second._cdata  # noqa: SLF001
        and _layout(tensor) == _layout(alias)
    )


def _layout(tensor: Tensor) -> tuple[object, ...]:
    """How a tensor lies in its storage, past whatever its class says of that."""
    base: Any = torch._C.TensorBase  # noqa: SLF001
    return (
        base.dtype.__get__(tensor),
        tuple(base.size(tensor)),
        base.stride(tensor),
        base.storage_offset(tensor),
    )


def _storage(alias: Tensor, storage: torch.UntypedStorage) -> Undo:
    def as_bytes() -> Tensor:
        return torch.empty(0, dtype=torch.uint8, device=alias.device).set_(storage)

    kept = as_bytes().clone()

    def undo() -> None:
        if storage.nbytes() != kept.numel():
            storage.resize_(kept.numel())
        now = as_bytes()
        # As bytes: NaN differs from itself, and -0.0 equals 0.0. Written only where they
        # changed, for memory that is mapped read-only.
        if not torch.equal(now, kept):
            now.copy_(kept)

    return undo
