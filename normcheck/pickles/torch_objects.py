"""The few names in a torch pickle that are understood, and what is built for them.

A closed list: containers, tensor rebuild functions, element types and sizes. What is
built are our own values; the functions of the same names in torch are never called.
Signatures are those of ``torch/_utils.py``, ``torch/_tensor.py`` and
``torch/nn/parameter.py``, old ones included.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from normcheck.errors import UnreadableError
from normcheck.pickles.inert import GlobalName, Inert, OrderedRecord, attributes_of, brief
from normcheck.pickles.numpy_arrays import array_as_tensor
from normcheck.pickles.sharded_tensors import PART, part_of_rank
from normcheck.saved.dtypes import BY_NAME, FLOAT32, UINT8, DType, of_storage_class
from normcheck.saved.tensors import (
    Storage,
    TensorRef,
    TensorShard,
    checked_tensor,
    tensor_without_data,
)
from normcheck.sources.limits import DEFAULT_LIMITS, Limits

Constructors = Mapping[tuple[str, str], Callable[..., object]]


def dtype_named(value: object) -> DType | None:
    """The element type that the pickle names (``torch.float32``); None for anything else."""
    if isinstance(value, GlobalName) and value.module == "torch":
        return BY_NAME.get(value.name)
    return None


def storage_dtype(value: object) -> DType:
    """The element type of the storage class that the pickle names.

    Raises:
        UnreadableError: No storage class of torch's.
    """
    name = value.name if isinstance(value, GlobalName) else ""
    dtype = of_storage_class(name)
    if dtype is None:
        raise UnreadableError(
            f"storages of class {name[:80] or brief(value)} are not known",
            "the file is damaged, or newer than this normcheck",
        )
    return dtype


def storage_key(value: object) -> str:
    """The key by which the pickle names a storage; torch writes numbers, as text.

    Raises:
        UnreadableError: Anything else.
    """
    if type(value) is str and len(value) < 20 and value.isdecimal() and value.isascii():
        return value
    if not isinstance(value, str | int) or len(brief(value)) > 40:
        raise UnreadableError(
            f"a storage has the key {brief(value)}", "the file is damaged; save it again"
        )
    return str(value)


_ELSEWHERE = GlobalName("", "persistent id")
"""What the machine makes of a persistent id where nothing stands behind it."""


def _flag(value: object) -> bool:
    return value is True or value == 1


def _rebuild_tensor(
    limits: Limits,
    storage: object,
    offset: object,
    size: object,
    stride: object,
    requires_grad: object = False,
    _hooks: object = None,
    metadata: object = None,
) -> TensorRef:
    if isinstance(storage, Inert) and storage.cls == _ELSEWHERE:
        raise UnreadableError(
            "a pickle whose tensors lie in other files: it was taken out of an archive that "
            "torch.save wrote",
            "scan the archive; if only its unpacked folder is left, pack it again: "
            "zip -0 -r model.pt FOLDER, from the folder's parent",
        )
    if not isinstance(storage, Storage):
        raise TypeError("a tensor over something that is not a storage")
    grad = requires_grad if type(requires_grad) is bool else _flag(requires_grad)
    tensor = checked_tensor(storage, offset, size, stride, requires_grad=grad, limits=limits)
    return tensor if metadata is None else _with_metadata(tensor, metadata)


def _rebuild_tensor_v3(
    limits: Limits,
    storage: object,
    offset: object,
    size: object,
    stride: object,
    requires_grad: object,
    _hooks: object,
    dtype: object,
    metadata: object = None,
) -> TensorRef:
    element = dtype_named(dtype)
    if not isinstance(storage, Storage) or element is None:
        raise TypeError(f"a tensor of element type {brief(dtype)}")
    tensor = checked_tensor(
        storage,
        offset,
        size,
        stride,
        dtype=element,
        requires_grad=_flag(requires_grad),
        limits=limits,
    )
    return _with_metadata(tensor, metadata)


def _with_metadata(tensor: TensorRef, metadata: object) -> TensorRef:
    if not isinstance(metadata, dict):
        return tensor
    return replace(
        tensor,
        negated=metadata.get("neg") is True,
        conjugated=metadata.get("conj") is True,
    )


def _rebuild_parameter(data: object, requires_grad: object = True, *_rest: object) -> object:
    if isinstance(data, TensorRef):
        return data.with_flags(parameter=True, requires_grad=_flag(requires_grad))
    return data


def _uninitialised(*_args: object) -> TensorRef:
    return tensor_without_data(FLOAT32, (), "a lazy layer that never ran")


def _without_storage(note: str, dtype: object, size: object, grad: object) -> TensorRef:
    return tensor_without_data(dtype_named(dtype) or FLOAT32, size, note, requires_grad=_flag(grad))


def _rebuild_meta(dtype: object, size: object, _stride: object, grad: object) -> TensorRef:
    return _without_storage("a meta tensor", dtype, size, grad)


def _rebuild_wrapper(
    cls: object, dtype: object, size: object, _stride: object, *rest: object
) -> TensorRef:
    name = cls.dotted if isinstance(cls, GlobalName) else "a tensor subclass"
    return _without_storage(f"{name} without its data", dtype, size, rest[-1] if rest else None)


def _rebuild_quantised(storage: object, _offset: object, size: object, *_rest: object) -> TensorRef:
    dtype = storage.dtype if isinstance(storage, Storage) else UINT8
    return tensor_without_data(dtype, size, "a quantised tensor")


def _rebuild_sparse(_layout: object, data: object) -> TensorRef:
    parts = data if isinstance(data, tuple) else ()
    values = next((p for p in reversed(parts) if isinstance(p, TensorRef)), None)
    sizes = [p for p in parts if isinstance(p, tuple)]
    return tensor_without_data(
        values.dtype if values else FLOAT32, sizes[-1] if sizes else (), "a sparse tensor"
    )


def _rebuild_nested(buffer: object, *_rest: object) -> TensorRef:
    dtype = buffer.dtype if isinstance(buffer, TensorRef) else FLOAT32
    return tensor_without_data(dtype, (), "a nested tensor, whose parts have lengths of their own")


def _rebuild_jagged(*_args: object) -> TensorRef:
    return _rebuild_nested(None)


def _moved_from_cpu(data: object, *_rest: object) -> object:
    return data


def _moved_from_numpy(data: object, *_rest: object) -> object:
    return array_as_tensor(data) or data


def _from_type(
    constructors: Constructors, function: object, cls: object, args: object, _state: object = None
) -> object:
    """A tensor subclass: the plain tensor that it wraps, by the function named for that."""
    if isinstance(function, GlobalName) and isinstance(args, tuple):
        if function.name == "_rebuild_wrapper_subclass" and (part := _of_ranks(args, _state)):
            return part
        build = constructors.get((function.module, function.name))
        # Never itself again: torch does not nest it, and its depth would be the file's choice.
        if build is not None and not function.name.startswith("_rebuild_from_type"):
            return build(*args)
    # Whatever it is made by, a tensor is what comes of it: said, not passed over.
    name = brief(cls) if isinstance(cls, GlobalName) else "a tensor subclass"
    return tensor_without_data(FLOAT32, (), f"{name}, a tensor subclass that is not read")


def _of_ranks(args: tuple[object, ...], state: object) -> TensorRef | None:
    """What this file's rank holds of a tensor; None of a wrapper that is not cut over ranks."""
    dtype = dtype_named(args[1]) if len(args) > 1 else None
    return _distributed(args, state) or part_of_rank(args, state, dtype)


def _distributed(args: tuple[object, ...], state: object) -> TensorRef | None:
    """What a ``DTensor`` holds of its tensor; None of any other wrapper.

    The whole where it is not cut; a sum that is still to be taken is no value.
    """
    parts = state if isinstance(state, tuple) else (state,)
    held = next((p for p in parts if isinstance(p, dict) and "_local_tensor" in p), {})
    local, spec = held.get("_local_tensor"), attributes_of(held.get("_spec"))
    placements = spec.get("placements")
    if not isinstance(local, TensorRef) or not isinstance(placements, tuple) or len(args) < 3:
        return None
    kinds = [p.class_path.rpartition(".")[2] for p in placements if isinstance(p, Inert)]
    shape = args[2]
    if len(kinds) < len(placements) or not set(kinds) <= {"Shard", "Replicate"}:
        return None
    if local.shape == shape:
        return local
    cuts = [p for p, kind in zip(placements, kinds, strict=True) if kind == "Shard"]
    dim = attributes_of(cuts[0]).get("dim") if len(cuts) == 1 else None
    if type(dim) is not int or not isinstance(shape, tuple) or not 0 <= dim < len(shape):
        return None
    whole = tensor_without_data(local.dtype, shape, PART)
    if len(whole.shape) != local.ndim:
        return None
    return TensorShard(
        whole.dtype, whole.shape, whole.strides, 0, None, note=whole.note, local=local, dim=dim
    )


def _encode(text: object, encoding: object = "utf-8") -> bytes:
    # Protocol 2 has no bytes: they are written as text to be encoded as latin-1.
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8"):
        raise TypeError("bytes made from something that is not text")
    return text.encode(str(encoding))


def _bytes(*args: object) -> bytes:
    # Empty bytes are written as a call without arguments. A number would be a length.
    if args and not isinstance(args[0], bytes):
        raise TypeError("bytes made from something that is not bytes")
    return args[0] if args and isinstance(args[0], bytes) else b""


def _container(kind: type, *args: Any) -> object:
    return kind(*args[:1]) if not args or isinstance(args[0], list | tuple) else kind()


def _frozen(kind: type, *args: Any) -> object:
    # Members must be safe to hash; what cannot be a member cannot name a model either.
    members = args[0] if args and isinstance(args[0], list | tuple) else ()
    return kind(
        member
        for member in members
        if isinstance(member, str | float | bytes)
        or (isinstance(member, int) and member.bit_length() <= 64)
    )


def _ordered(*args: object) -> OrderedRecord:
    record = OrderedRecord()
    # Protocol 0 and 1 write the items as a list of pairs instead of setting them.
    for pair in args[0] if args and isinstance(args[0], list) else ():
        if isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str | int):
            record[pair[0]] = pair[1]
    return record


def _reconstruct(cls: object, *_rest: object) -> Inert:
    return Inert(cls)


def constructors(
    limits: Limits = DEFAULT_LIMITS, embedded: Callable[[bytes], object] | None = None
) -> Constructors:
    """The table for one file.

    Args:
        limits: Bounds on what tensors may claim.
        embedded: Reads a storage that was pickled into the pickle as a file of its own,
            as ``pickle.dump(model)`` writes it.
    """
    table: dict[tuple[str, str], Callable[..., object]] = {
        ("collections", "OrderedDict"): _ordered,
        ("_codecs", "encode"): _encode,
        ("copyreg", "_reconstructor"): _reconstruct,
        ("copy_reg", "_reconstructor"): _reconstruct,
        ("torch", "Size"): partial(_container, tuple),
        ("torch._utils", "_rebuild_tensor"): partial(_rebuild_tensor, limits),
        ("torch._utils", "_rebuild_tensor_v2"): partial(_rebuild_tensor, limits),
        ("torch._utils", "_rebuild_tensor_v3"): partial(_rebuild_tensor_v3, limits),
        ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
        ("torch._utils", "_rebuild_parameter_with_state"): _rebuild_parameter,
        ("torch._utils", "_rebuild_meta_tensor_no_storage"): _rebuild_meta,
        ("torch._utils", "_rebuild_wrapper_subclass"): _rebuild_wrapper,
        ("torch._utils", "_rebuild_qtensor"): _rebuild_quantised,
        ("torch._utils", "_rebuild_nested_tensor"): _rebuild_nested,
        ("torch.nested._internal.nested_tensor", "_rebuild_njt"): _rebuild_jagged,
        ("torch._utils", "_rebuild_sparse_tensor"): _rebuild_sparse,
        ("torch._utils", "_rebuild_sparse_csr_tensor"): _rebuild_sparse,
        ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"): _moved_from_cpu,
        ("torch._utils", "_rebuild_device_tensor_from_numpy"): _moved_from_numpy,
        ("torch._utils", "_rebuild_xla_tensor"): _moved_from_numpy,
        ("torch.nn.parameter", "Parameter"): _rebuild_parameter,
        ("torch.nn.parameter", "UninitializedParameter"): _uninitialised,
        ("torch.nn.parameter", "UninitializedBuffer"): _uninitialised,
    }
    for module in ("builtins", "__builtin__"):
        table |= {
            (module, "bytes"): _bytes,
            (module, "list"): partial(_container, list),
            (module, "tuple"): partial(_container, tuple),
            (module, "set"): partial(_frozen, set),
            (module, "frozenset"): partial(_frozen, frozenset),
        }
    table["torch._tensor", "_rebuild_from_type"] = partial(_from_type, table)
    table["torch._tensor", "_rebuild_from_type_v2"] = partial(_from_type, table)
    if embedded is not None:
        table["torch.storage", "_load_from_bytes"] = embedded
    return table


def as_tensor(value: object) -> TensorRef | None:
    """``value`` as a tensor: a tensor, or a numpy array that was pickled; None otherwise."""
    return value if isinstance(value, TensorRef) else array_as_tensor(value)
