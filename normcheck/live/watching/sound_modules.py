"""Whether a tree of modules is one that torch can go through, before anything does.

A file can hold a module that contains itself, an attribute in the place of a method, a number in
the place of a parameter. ``torch.nn`` never makes such a tree and looks at none of it: what fails
is then whatever meets it first. Here the fault is named.
"""

from collections.abc import Container, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from normcheck.errors import NormcheckError

_HINT = (
    "torch.nn makes no such module: it was changed by hand, or by code that went wrong; "
    "build it anew, load its state dict, and save that"
)
_METHODS = frozenset(
    {
        "_apply", "_call_impl", "_named_members", "_wrapped_call_impl", "buffers", "children",
        "eval", "forward", "modules", "named_buffers", "named_children", "named_modules",
        "named_parameters", "parameters", "state_dict", "to", "train",
    }
)  # fmt: skip
"""Methods that torch or a probe calls. Others may be shadowed: many models have an attribute
called ``type`` or ``half``, and run."""
_HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks",
)  # fmt: skip


def check_sound(model: nn.Module) -> None:
    """Look at the registries of every module below a model.

    Args:
        model: Of any origin; nothing of it is called.

    Raises:
        NormcheckError: Something is in a place where torch expects another kind of thing.
    """
    above: set[int] = set()
    done: set[int] = set()
    # A module is left when all below it are done: then it is no longer above what follows.
    stack: list[tuple[str, Any, bool]] = [("", model, False)]
    while stack:
        path, module, leaving = stack.pop()
        if leaving:
            above.discard(id(module))
            continue
        if id(module) in above:
            raise NormcheckError(f"the module tree holds itself at {path!r}", _HINT)
        if id(module) in done:
            continue
        done.add(id(module))
        above.add(id(module))
        if isinstance(module, torch.jit.ScriptModule):
            continue  # made and checked by torch's own compiler
        for fault in _faults(module):
            raise NormcheckError(f"{_named(path, module)}: {fault}", _HINT)
        stack.append((path, module, True))
        children = [(n, m) for n, m in vars(module)["_modules"].items() if m is not None]
        stack.extend((f"{path}.{n}" if path else n, m, False) for n, m in reversed(children))


def _named(path: str, module: nn.Module) -> str:
    return f"{path or 'the model'} ({type(module).__name__})"


def _faults(module: nn.Module) -> Iterator[str]:
    state = vars(module)
    for name in sorted(_METHODS & state.keys()):
        if not callable(state[name]):
            yield f"its attribute {name!r} is {_a(state[name])}, in the place of a method"
    for registry, kind, what in (
        ("_modules", nn.Module, "a module"),
        ("_parameters", Tensor, "a tensor"),
        ("_buffers", Tensor, "a tensor"),
    ):
        yield from _registry_faults(state.get(registry), registry, kind, what)
    transient = state.get("_non_persistent_buffers_set", set())
    if not isinstance(transient, Container):
        yield f"its '_non_persistent_buffers_set' is {_a(transient)}, not a set"
    for name in _HOOKS:
        hooks = state.get(name)
        if hooks is None:
            continue
        if not isinstance(hooks, dict):
            yield f"its {name!r} is {_a(hooks)}, not a dictionary"
        elif any(not callable(hook) for hook in hooks.values()):
            yield f"one of its {name!r} cannot be called"


def _registry_faults(entries: object, name: str, kind: type, what: str) -> Iterator[str]:
    if not isinstance(entries, dict):
        yield f"its {name!r} is {_a(entries)}, not a dictionary"
        return
    for key, value in entries.items():
        if not isinstance(key, str):
            yield f"a key of its {name!r} is {_a(key)}, not text"
        elif value is not None and not isinstance(value, kind):
            yield f"{key!r} in its {name!r} is {_a(value)}, not {what}"


def _a(value: object) -> str:
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
