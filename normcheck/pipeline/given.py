"""What a scan in Python was given: files, live models, state dicts, exports, or no such thing.

torch is not imported: whoever holds one of its objects has done that.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any

from normcheck.config.examination import Examination
from normcheck.config.policy import Policy
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


def paths_in(targets: Any, who: str) -> list[str]:
    """The paths in what a function that compares or repairs files was given.

    Args:
        targets: An iterable of paths; a single one is a list of one.
        who: What wants them, in words that ``files`` follows: ``diff compares``.

    Raises:
        UsageError: Something else.
    """
    single = isinstance(targets, str | os.PathLike)
    if not single and (not isinstance(targets, Iterable) or isinstance(targets, bytes | Mapping)):
        raise _no_path(targets, who)
    found = []
    for target in [targets] if single else targets:
        if not isinstance(target, str | os.PathLike):
            raise _no_path(target, who)
        found.append(os.fsdecode(target))
    return found


def _no_path(target: object, who: str) -> UsageError:
    live = kind_of(target) is not None
    hint = "save it first, and give the path of the file" if live else "give paths of files"
    return UsageError(f"{who} files, not {_what(target)}", hint)


def check_kinds(examination: object, policy: object) -> None:
    """See that what a scan or a comparison was given in Python is what it takes.

    Raises:
        UsageError: One of them is something else.
    """
    for name, value, kind in (
        ("the examination", examination, Examination), ("the policy", policy, Policy)
    ):  # fmt: skip
        if value is not None and not isinstance(value, kind):
            hint = f"give normcheck.{kind.__name__}(...), or nothing"
            raise UsageError(f"{name} is given as {_what(value)}", hint)


def refused(target: object) -> UsageError:
    """The error for what cannot be scanned, with what it was probably meant to be."""
    hint = _TAKEN
    if isinstance(target, bytes):
        hint = "give the path as text, or write the bytes to a file"
    elif isinstance(target, type):
        hint = "give an instance of it, with its weights"
    elif callable(target):
        hint = "call it, and give what it returns"
    elif _is_array(target):
        hint = "a mapping from names to tensors is a state dict"
    return UsageError(f"{_what(target)} cannot be scanned", hint)


def _what(value: object) -> str:
    """A value in words, without a look at what is in it."""
    if value is None or isinstance(value, bytes):
        return "None" if value is None else "bytes"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if callable(value) and kind_of(value) is None:
        return f"the function {getattr(value, '__name__', type(value).__name__)}"
    name = type(value).__name__
    # As it is spoken: "an ndarray".
    return f"{'an' if name[:1].lower() in 'aeiou' or name == 'ndarray' else 'a'} {name}"


def _is_array(value: object) -> bool:
    """Whether it is a tensor or an array, which can be gone through like a list."""
    return hasattr(value, "dtype") and hasattr(value, "shape")
