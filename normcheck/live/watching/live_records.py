"""A live model in the values that the readers of files end in, so that all rules work on it.

Nothing is copied: a tensor's bytes are looked at when a rule asks for them.
"""

import torch
from torch import Tensor, nn

from normcheck.live.watching.reachable_modules import reachable
from normcheck.saved.checkpoint import Form, ModuleRecord, Plain, SavedModel
from normcheck.saved.dtypes import BY_NAME
from normcheck.saved.tensors import Storage, TensorRef, tensor_without_data

_LONGEST = 16
"""Entries of a tuple that is configuration; longer ones are contents."""
_INTERNAL = frozenset({"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"})


class _Memory:
    """The bytes of one tensor's storage."""

    def __init__(self, storage: torch.UntypedStorage, device: torch.device) -> None:
        self._storage = storage
        self._device = device

    @property
    def nbytes(self) -> int:
        """Length in bytes."""
        return self._storage.nbytes()

    def read(self, start: int, length: int) -> bytes:
        """``length`` bytes from ``start``."""
        whole = torch.empty(0, dtype=torch.uint8, device=self._device).set_(self._storage)
        # A copy: numpy would keep the storage from ever being resized again.
        return whole[start : start + length].clone().cpu().numpy().tobytes()


def described(model: nn.Module, *, modes_known: bool) -> SavedModel:
    """The model as a file of it would be read.

    Args:
        model: Alive.
        modes_known: Whether its modes mean anything: those of a model that a factory has just
            made do not.
    """
    storages: dict[int, Storage] = {}
    aliases: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        aliases.setdefault(id(module), []).append(name)
    records, tensors = [], {}
    for entry in reachable(model):
        module = entry.module
        transient = module._non_persistent_buffers_set  # noqa: SLF001
        parameters = {n: _ref(t, storages) for n, t in module._parameters.items()}  # noqa: SLF001
        buffers = {n: _ref(t, storages) for n, t in module._buffers.items()}  # noqa: SLF001
        records.append(
            ModuleRecord(
                path=entry.path,
                class_path=f"{type(module).__module__}.{type(module).__qualname__}",
                training=module.training if modes_known else None,
                attributes=_attributes(module),
                parameters=parameters,
                buffers=buffers,
                non_persistent=frozenset(transient),
                plain_tensors={
                    name: ref
                    for name, value in vars(module).items()
                    if isinstance(value, Tensor) and (ref := _ref(value, storages)) is not None
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


def _ref(tensor: Tensor | None, storages: dict[int, Storage]) -> TensorRef | None:
    if tensor is None:
        return None
    name = str(tensor.dtype).removeprefix("torch.")
    dtype = BY_NAME.get(name, BY_NAME["uint8"])
    parameter = isinstance(tensor, nn.Parameter)
    if isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer):
        note = "a lazy layer that never ran"
        return tensor_without_data(dtype, (), note, requires_grad=tensor.requires_grad)
    try:
        alias = tensor.detach()
        memory = alias.untyped_storage()
        if alias.is_meta or alias.layout != torch.strided or name not in BY_NAME:
            raise NotImplementedError
    except (NotImplementedError, RuntimeError):
        return tensor_without_data(dtype, tuple(tensor.shape), f"a {name} tensor without values")
    key = memory._cdata  # noqa: SLF001  (the identity of a storage)
    if key not in storages:
        region = _Memory(memory, alias.device)
        storages[key] = Storage(str(len(storages)), dtype, memory.nbytes(), region=region)
    ref = TensorRef(
        dtype,
        tuple(alias.shape),
        alias.stride(),
        int(alias.storage_offset()),
        storages[key],
        negated=alias.is_neg(),
        conjugated=alias.is_conj(),
    )
    return ref.with_flags(parameter=parameter, requires_grad=tensor.requires_grad)
