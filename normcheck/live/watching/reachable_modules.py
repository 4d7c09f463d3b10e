"""Every module that a model can call, registered or not.

``model.modules()`` knows only what was assigned to a module's attributes. A module in a plain
list, in a dictionary, in a closure or behind a bound method runs in the forward all the same,
and neither ``eval()`` nor ``state_dict()`` reaches it.
"""

import functools
import sys
import types
from collections import deque
from collections.abc import Iterator

import torch
from torch import nn

from normcheck.lazy_dataclass import lazy_dataclass

_DEPTH = 6
"""Levels of containers and closures that are searched below one attribute."""
_MOST = 100_000
"""Values that are looked at in one model: a list of a million numbers holds no module."""
_NOT_THE_USERS = sys.stdlib_module_names - {"__main__"} | {"torch", "numpy"}
_BOOKKEEPING = frozenset({"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"})


@lazy_dataclass()
class Reached:
    """One module and how it hangs in the model."""

    path: str
    """Dotted, with brackets for what lies in containers: ``blocks[2].norm``."""
    module: nn.Module
    registered: bool
    """Whether ``model.modules()`` yields it."""


def reachable(model: nn.Module) -> list[Reached]:
    """All modules, registered ones first, each once.

    Args:
        model: The root; its own path is empty.
    """
    found = [Reached(name, module, True) for name, module in model.named_modules()]
    seen = {id(entry.module) for entry in found}
    budget = [_MOST]
    position = 0
    # The list grows while it is gone through: hidden modules hide others.
    while position < len(found):
        parent = found[position]
        position += 1
        for name, module in _hidden(parent.module, seen, budget):
            path = f"{parent.path}.{name}" if parent.path else name
            for below, child in module.named_modules():
                if id(child) not in seen:
                    seen.add(id(child))
                    found.append(Reached(f"{path}.{below}" if below else path, child, False))
    return found


def _hidden(
    module: nn.Module, seen: set[int], budget: list[int]
) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(module, torch.jit.ScriptModule):
        return  # it keeps its own modules a second time, behind its methods
    gone_through: set[int] = set()
    for name, value in vars(module).items():
        if name not in _BOOKKEEPING:
            yield from _modules_in(name, value, seen, gone_through, budget, _DEPTH)


def _modules_in(
    name: str, value: object, seen: set[int], gone_through: set[int], budget: list[int], depth: int
) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(value, nn.Module):
        if id(value) not in seen:
            yield name, value
        return
    if depth == 0 or id(value) in gone_through:
        return
    for part_name, part in _parts(name, value):
        gone_through.add(id(value))
        if isinstance(part, str | int | float | bytes | type(None)):
            continue  # a vocabulary of words costs nothing of the budget
        budget[0] -= 1
        if budget[0] <= 0:
            return
        else:
            yield from _modules_in(part_name, part, seen, gone_through, budget, depth - 1)


def _parts(name: str, value: object) -> Iterator[tuple[str, object]]:
    """What lies directly in a container or a function, and how its path goes on."""
    if isinstance(value, list | tuple | deque):
        yield from ((f"{name}[{i}]", item) for i, item in enumerate(value))
    elif isinstance(value, dict):
        yield from ((f"{name}[{key!r:.40}]", item) for key, item in list(value.items()))
    elif isinstance(value, set | frozenset):
        yield from ((f"{name}{{}}", item) for item in value)
    elif isinstance(value, functools.partial):
        yield f"{name}.func", value.func
        yield from ((f"{name}.args[{i}]", item) for i, item in enumerate(value.args))
        yield from ((f"{name}.keywords[{key!r}]", item) for key, item in value.keywords.items())
    elif isinstance(value, types.MethodType):
        yield f"{name}.__self__", value.__self__
    elif isinstance(value, types.FunctionType):
        yield from _closure(name, value)
    else:
        attributes = own_attributes(value) or {}
        yield from ((f"{name}.{key}", item) for key, item in list(attributes.items()))
        yield from ((f"{name}.{key}", item) for key, item in slots_of(value))


def own_attributes(value: object) -> dict[str, object] | None:
    """The instance dictionary of an object of the user's; None for anything else.

    Objects of Python, torch and numpy are left alone: what they keep is not a model's.
    """
    if _not_the_users(value):
        return None
    entries = getattr(value, "__dict__", None)
    return entries if isinstance(entries, dict) else None


def _not_the_users(value: object) -> bool:
    if isinstance(value, types.SimpleNamespace):
        return False
    package = type(value).__module__.partition(".")[0]
    return package in _NOT_THE_USERS or isinstance(value, type | types.ModuleType)


def slots_of(value: object) -> Iterator[tuple[str, object]]:
    """Attributes in slots of an object of the user's."""
    names = getattr(type(value), "__slots__", ()) if not _not_the_users(value) else ()
    for name in (names,) if isinstance(names, str) else names:
        if hasattr(value, name):
            yield name, getattr(value, name)


def _closure(name: str, function: types.FunctionType) -> Iterator[tuple[str, object]]:
    for variable, cell in zip(
        function.__code__.co_freevars, function.__closure__ or (), strict=False
    ):
        try:
            yield f"{name} (closure over {variable})", cell.cell_contents
        except ValueError:  # a variable that was never assigned
            continue
    for key, item in (function.__kwdefaults__ or {}).items():
        yield f"{name} (default {key})", item
    yield from (
        (f"{name} (default {i})", item) for i, item in enumerate(function.__defaults__ or ())
    )
