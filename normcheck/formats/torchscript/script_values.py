"""The values that TorchScript code is followed with, and what is known of its operators."""

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.pickles.inert import Inert

ABOUT_TENSORS = frozenset(
    {
        "dim", "size", "len", "numel", "device", "dtype", "is_floating_point", "format", "warn",
        "is_scripting", "is_cuda", "layout", "requires_grad", "stride", "__range_length",
        "__derive_index", "__contains__", "__is__", "__isnot__", "sym_size", "is_autocast_enabled",
        "get_autocast_dtype", "storage_offset", "is_contiguous", "item",
    }
)  # fmt: skip
"""Operators that make no tensor."""

KNOWN: Mapping[str, Callable[..., Any]] = {
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "__not__": lambda a: not a,
    "__is__": lambda a, b: a is b,
    "__isnot__": lambda a, b: a is not b,
    "__and__": lambda a, b: a and b,
    "__or__": lambda a, b: a or b,
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "neg": lambda a: -a,
}
"""Of plain values; numbers are small and text is not added, so that nothing grows."""


@lazy_dataclass()
class Dotted:
    """A name that is looked up in no object: an operator, a function of the code, a namespace."""

    name: str


@lazy_dataclass(eq=False)
class ScriptModule:
    """A module of the model, by its object in the pickle."""

    value: Inert
    path: str


@lazy_dataclass(eq=False)
class ScriptMethod:
    """A name of a module that is none of its attributes: one of its methods."""

    module: ScriptModule
    name: str


@lazy_dataclass(frozen=False)
class Frame:
    """One call: its variables, and the module that it belongs to."""

    names: dict[str, object]
    module: ScriptModule
    result: object = None
    returned: bool = False


def is_small(value: object) -> bool:
    """Whether a value is plain, and small enough to be computed with."""
    return (
        value is None
        or isinstance(value, bool | float)
        or (type(value) is int and value.bit_length() < 64)
    )


def only_raises(body: Sequence[ast.stmt]) -> bool:
    """Whether a branch ends in an error: what goes on is the other one."""
    return any(
        isinstance(part, ast.Expr)
        and isinstance(part.value, ast.Call)
        and isinstance(part.value.func, ast.Attribute)
        and part.value.func.attr == "RaiseException"
        for part in body
    )
