"""What the process that runs a model sends back, as bytes that cannot do anything here.

The process may have run code of the file's, and whoever controls it writes what we read. So
the way back knows a closed list of our own values and numpy's arrays; nothing else that the
bytes name is looked up.
"""

import functools
import io
import operator
import pickle
import struct
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from importlib import import_module
from typing import Any, BinaryIO

from normcheck.norms.kinds import BY_NAME as KINDS
from normcheck.norms.kinds import NormKind
from normcheck.saved.dtypes import BY_NAME as DTYPES
from normcheck.saved.dtypes import DType
from normcheck.saved.tensors import TensorRef

HEADER = struct.Struct("<Q")
"""Before each message its length in bytes."""
DAMAGED = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, KeyError, IndexError,
    ImportError,
)  # fmt: skip
"""What ``read`` may raise on bytes that nobody wrote here."""
_ARRAYS = frozenset(
    (f"numpy{part}.{module}", name)
    for part in (".core", "._core")
    for module, name in (
        ("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"),
    )
) | {("numpy", "ndarray"), ("numpy", "dtype")}  # fmt: skip
_LATE = frozenset({"normcheck.live.measurement"})
"""Modules of ours whose values are sent to who has not imported them yet: the report of a run
that another process made. All others are there, or nothing of theirs is meant."""
_CONTAINERS = frozenset({("builtins", "set"), ("builtins", "frozenset")})


def send(pipe: BinaryIO, message: tuple[Any, ...]) -> None:
    """Write one message."""
    data = written(message)
    pipe.write(HEADER.pack(len(data)) + data)
    pipe.flush()


def written(message: Any) -> bytes:
    """A message, or a value of ours, as ``read`` takes it."""
    raw = io.BytesIO()
    _Writer(raw, protocol=5).dump(message)
    return raw.getvalue()


def read(data: bytes) -> Any:
    """The message in ``data``.

    Raises:
        pickle.UnpicklingError: It names anything that we do not send.
    """
    return _Reader(io.BytesIO(data)).load()


@functools.cache
def _parts_of(kind: type) -> Callable[[Any], tuple[Any, ...]] | None:
    """What takes the arguments of a dataclass of ours out of one; None for anything else."""
    if not (is_dataclass(kind) and kind.__module__.startswith("normcheck.")):
        return None
    names = [field.name for field in fields(kind)]
    if len(names) < 2 or not all(field.init and not field.kw_only for field in fields(kind)):
        return None
    return operator.attrgetter(*names)


class _Writer(pickle.Pickler):
    def persistent_id(self, obj: Any) -> tuple[str, str] | None:
        # One object for each kind and type: some are told apart by identity.
        if isinstance(obj, NormKind) and KINDS.get(obj.name) is obj:
            return "kind", obj.name
        if isinstance(obj, DType) and DTYPES.get(obj.name) is obj:
            return "dtype", obj.name
        return None

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, TensorRef):
            # The bytes stay where they are; what was to be said of them has been measured.
            return TensorRef, (
                obj.dtype, obj.shape, obj.strides, obj.offset, None, obj.parameter,
                obj.requires_grad, obj.negated, obj.conjugated, obj.note or "left in its process",
            )  # fmt: skip
        # Built by its own constructor: a frozen dataclass with slots otherwise sets its state
        # by a loop in Python, which takes several times as long.
        kind = type(obj)
        made = _parts_of(kind)  # type: ignore[arg-type]  # mypy takes object.__hash__ for unbound
        return NotImplemented if made is None else (kind, made(obj))


class _Reader(pickle.Unpickler):
    def persistent_load(self, pid: Any) -> Any:
        table: dict[str, Any] = {"kind": KINDS, "dtype": DTYPES}
        return table[pid[0]][pid[1]]

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ARRAYS:
            return super().find_class(module, name)
        if (module, name) in _CONTAINERS:
            return {"set": set, "frozenset": frozenset}[name]
        if module.startswith("normcheck.") and name.isidentifier():
            if module in _LATE:
                import_module(module)
            found = getattr(sys.modules.get(module), name, None)
            plain = isinstance(found, type) and found.__module__ == module
            if plain and (hasattr(found, "__dataclass_fields__") or issubclass(found, Enum)):  # type: ignore[arg-type]  # plain says so
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is nothing that a run sends")
