"""What a scan in Python was given: files, live models, state dicts, exports, or no such thing.

torch is not imported: whoever holds one of its objects has done that.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any

from normcheck.errors import UsageError

_TAKEN = (
    "give a path, an nn.Module, a state dict (a mapping of tensors), an ExportedProgram, "
    "or a list of these"
)


class Given(StrEnum):
    """What a target is."""

    FILE = "file"
    MODULE = "module"
    TENSORS = "mapping of tensors"
    EXPORT = "exported program"


def kind_of(target: object) -> Given | None:
    """What one target is; None for what cannot be scanned."""
    if isinstance(target, str | os.PathLike):
        return Given.FILE
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(target, torch.nn.Module):
        return Given.MODULE
    export = sys.modules.get("torch.export")
    if export is not None and isinstance(target, export.ExportedProgram):
        return Given.EXPORT
    return Given.TENSORS if isinstance(target, Mapping) else None


def targets_in(targets: Any) -> Iterator[tuple[Given, Any]]:
    """The targets with what each is; what is at hand is looked at before the first is scanned.

    Args:
        targets: One of them, or an iterable of several.

    Raises:
        UsageError: One cannot be scanned; says what can.
    """
    kind = kind_of(targets)
    if kind is not None:
        return iter([(kind, targets)])
    if not isinstance(targets, Iterable) or _is_array(targets) or isinstance(targets, bytes | type):
        raise refused(targets)
    if isinstance(targets, list | tuple | set | frozenset):
        return iter([_known(target) for target in targets])
    return map(_known, targets)


def _known(target: object) -> tuple[Given, Any]:
    kind = kind_of(target)
    if kind is None:
        raise refused(target)
    return kind, target


def refused(target: object) -> UsageError:
    """The error for what cannot be scanned, with what it was probably meant to be."""
    hint = _TAKEN
    if isinstance(target, bytes):
        what, hint = "bytes", "give the path as text, or write the bytes to a file"
    elif isinstance(target, type):
        what, hint = f"the class {target.__name__}", "give an instance of it, with its weights"
    elif callable(target):
        what = f"the function {getattr(target, '__name__', type(target).__name__)}"
        hint = "call it, and give what it returns"
    elif _is_array(target):
        what, hint = _a(target), "a mapping from names to tensors is a state dict"
    else:
        what = "None" if target is None else _a(target)
    return UsageError(f"{what} cannot be scanned", hint)


def _is_array(value: object) -> bool:
    """Whether it is a tensor or an array, which can be gone through like a list."""
    return hasattr(value, "dtype") and hasattr(value, "shape")


def _a(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
