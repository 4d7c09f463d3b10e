"""A live model in the values that the readers of files end in, so that all rules work on it.

Nothing is copied: a tensor's bytes are looked at when a rule asks for them.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from normcheck.errors import UnreadableError
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.watching.forward import switchable
from normcheck.live.watching.own_values import reading_of, shape_of
from normcheck.live.watching.reachable_modules import reachable
from normcheck.saved.checkpoint import Form, ModuleRecord, Plain, SavedModel
from normcheck.saved.dtypes import BY_NAME, UINT8, DType
from normcheck.saved.tensors import (
    Storage,
    TensorRef,
    TensorShard,
    contiguous_strides,
    tensor_without_data,
)

_LONGEST = 16
"""Entries of a tuple that is configuration; longer ones are contents."""
_INTERNAL = frozenset({"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"})


class _Memory:
    """The bytes of one tensor's storage, which is the tensor's own."""

    def __init__(self, storage: torch.UntypedStorage) -> None:
        self._storage = storage

    @property
    def nbytes(self) -> int:
        """Length in bytes."""
        return self._storage.nbytes()

    def read(self, start: int, length: int) -> bytes:
        """``length`` bytes from ``start``."""
        storage = self._storage
        if start + length > storage.nbytes():
            raise UnreadableError("the memory of a tensor was given back while it was read")
        whole = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
        # A copy: numpy would keep the storage from ever being resized again.
        return whole[start : start + length].clone().cpu().numpy().tobytes()


@lazy_dataclass()
class _Made:
    """The bytes of a tensor that is made anew each time, from one that has none of its own."""

    take: Callable[[], Tensor]
    nbytes: int

    def read(self, start: int, length: int) -> bytes:
        """``length`` bytes from ``start``."""
        try:
            plain = self.take()
        except Exception as error:  # code of the tensor's class
            raise UnreadableError(
                f"a tensor's own methods failed: {type(error).__name__}: {str(error)[:200]}",
                "its values could be had a moment ago; look at what changed the model meanwhile",
            ) from error
        dense = plain.resolve_conj().resolve_neg().cpu().contiguous()
        return dense.view(-1).view(torch.uint8)[start : start + length].numpy().tobytes()


def described(model: nn.Module, *, modes_known: bool) -> SavedModel:
    """The model as a file of it would be read.

    Args:
        model: Alive.
        modes_known: Whether its modes mean anything: those of a model that a factory has just
            made do not.
    """
    modes_known = modes_known and switchable(model)
    storages: dict[object, Storage] = {}
    aliases: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        aliases.setdefault(id(module), []).append(name)
    records, tensors = [], {}
    for entry in reachable(model):
        module = entry.module
        transient = module._non_persistent_buffers_set  # noqa: SLF001
        parameters = {n: tensor_ref(t, storages) for n, t in module._parameters.items()}  # noqa: SLF001
        buffers = {n: tensor_ref(t, storages) for n, t in module._buffers.items()}  # noqa: SLF001
        records.append(
            ModuleRecord(
                path=entry.path,
                class_path=_class_path(type(module)),
                training=_training(module) if modes_known else None,
                attributes=_attributes(module),
                parameters=parameters,
                buffers=buffers,
                non_persistent=frozenset(transient),
                plain_tensors={
                    name: ref
                    for name, value in vars(module).items()
                    if isinstance(value, Tensor)
                    and (ref := tensor_ref(value, storages)) is not None
                },
                aliases=tuple(a for a in aliases.get(id(module), ()) if a != entry.path),
                registered=entry.registered,
                has_children=any(module.children()),
            )
        )
        if entry.registered:
            prefix = f"{entry.path}." if entry.path else ""
            for name, ref in (*parameters.items(), *buffers.items()):
                if ref is not None and name not in transient:
                    tensors[prefix + name] = ref
    return SavedModel("", Form.LIVE, tensors, tuple(records))


def _class_path(kind: type) -> str:
    """Dotted name of a module's class: the user's, where torch made one of its own from it."""
    if "GraphModuleImpl" in kind.__qualname__:
        return "torch.fx.graph_module.GraphModule"
    if kind.__module__ == parametrize.__name__ or issubclass(kind, _sharded_kinds()):
        kind = next((k for k in kind.__bases__ if issubclass(k, nn.Module)), kind)
    return f"{kind.__module__}.{kind.__qualname__}"


def _sharded_kinds() -> tuple[type, ...]:
    """``FSDPModule``, from which ``fully_shard`` derives a class for each of the user's."""
    known = getattr(sys.modules.get("torch.distributed.fsdp"), "FSDPModule", None)
    return (known,) if isinstance(known, type) else ()


def _training(module: nn.Module) -> bool | None:
    # A frozen TorchScript module has no mode left.
    training = getattr(module, "training", None)
    return training if isinstance(training, bool) else None


def _attributes(module: nn.Module) -> dict[str, Plain]:
    found: dict[str, Plain] = {}
    for name, value in vars(module).items():
        if name in _INTERNAL or name == "training":
            continue
        if value is None or isinstance(value, bool | int | float | str):
            found[name] = value
        elif (
            isinstance(value, tuple | list)
            and len(value) <= _LONGEST
            and all(isinstance(item, bool | int | float | str) for item in value)
        ):
            found[name] = tuple(value)
    return found


def tensor_ref(tensor: Tensor | None, storages: dict[object, Storage]) -> TensorRef | None:
    """A reference to a live tensor, whose values are read when they are asked for.

    Args:
        tensor: Of any class; None gives None.
        storages: Of the model so far, so that tensors over one storage are seen to share it.
    """
    if tensor is None:
        return None
    reading, shape = reading_of(tensor), shape_of(tensor)
    with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001  (no code of the class)
        # As torch itself has them: a class may say something else, or raise.
        base: Any = torch._C.TensorBase  # noqa: SLF001
        name, grad = _name(base.dtype.__get__(tensor)), base.requires_grad.__get__(tensor)
        parameter = isinstance(tensor, nn.Parameter)
        dtype = BY_NAME.get(name)
        if reading.memory is not None and dtype is not None:
            ref = _in_memory(tensor, dtype, reading.memory, storages)
            return ref.with_flags(parameter=parameter, requires_grad=grad)
    if reading.take is not None and not reading.reason:
        ref = _made(reading.take, id(tensor), storages)
    else:
        note = reading.reason or f"element type {name}"
        ref = tensor_without_data(dtype or UINT8, shape, note, requires_grad=grad)
        if reading.take is not None and reading.cut is not None:
            part = _made(reading.take, id(tensor), storages)
            ref = TensorShard(
                ref.dtype, ref.shape, ref.strides, 0, None, note=note, local=part, dim=reading.cut
            )
    return ref.with_flags(parameter=parameter, requires_grad=grad)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _in_memory(
    tensor: Tensor, dtype: DType, memory: torch.UntypedStorage, storages: dict[object, Storage]
) -> TensorRef:
    key = memory._cdata  # noqa: SLF001  (the identity of a storage)
    if key not in storages:
        name = str(len(storages))
        storages[key] = Storage(name, dtype, memory.nbytes(), region=_Memory(memory))
    return TensorRef(
        dtype,
        tuple(tensor.shape),
        tensor.stride(),
        int(tensor.storage_offset()),
        storages[key],
        negated=tensor.is_neg(),
        conjugated=tensor.is_conj(),
        note="" if dtype.code else f"element type {dtype.name}",
    )


def _made(take: Callable[[], Tensor], owner: int, storages: dict[object, Storage]) -> TensorRef:
    """A tensor over what ``take`` makes, one for each tensor that it is made from."""
    plain = take()
    shape, name = tuple(plain.shape), _name(plain.dtype)
    if name not in BY_NAME:
        return tensor_without_data(UINT8, shape, f"element type {name}")
    dtype, key = BY_NAME[name], ("made from", owner)
    if key not in storages:
        size = plain.numel() * dtype.itemsize
        storages[key] = Storage(str(len(storages)), dtype, size, region=_Made(take, size))
    return TensorRef(dtype, shape, contiguous_strides(shape), 0, storages[key])
