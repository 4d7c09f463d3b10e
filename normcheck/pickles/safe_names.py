"""Names that ``torch.load`` takes from a pickle by default, without being told to trust the file.

The table of torch 2.13 (``torch/_weights_only_unpickler.py``); it has grown from version to
version, so an older torch may refuse more. Whether a file needs trust is no verdict on it: a
module saved whole names its own class, and that is enough.
"""

from collections.abc import Iterable

TORCH = "2.13"
"""The version whose table this is."""

_ELEMENTS = (
    "BFloat16", "Bool", "Byte", "Char", "ComplexDouble", "ComplexFloat", "Double", "Float", "Half",
    "Int", "Long", "Short",
)  # fmt: skip
_TENSORS = tuple(name for name in _ELEMENTS if not name.startswith("Complex"))
_SPARSE = tuple(name for name in _TENSORS if name != "Bool")
_QUANTISED = ("QInt32", "QInt8", "QUInt2x4", "QUInt4x2", "QUInt8")
_DTYPES = (
    "bfloat16", "bits16", "bits1x8", "bits2x4", "bits4x2", "bits8", "bool", "complex128",
    "complex32", "complex64", "float16", "float32", "float4_e2m1fn_x2", "float64",
    "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu",
    "qint32", "qint8", "quint2x4", "quint4x2", "quint8",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (*range(1, 9), 16, 32, 64)),
)  # fmt: skip
_SCHEMES = (
    "per_channel_affine", "per_channel_affine_float_qparams", "per_channel_symmetric",
    "per_tensor_affine", "per_tensor_symmetric",
)  # fmt: skip
_REBUILD = (
    "device_tensor_from_cpu_tensor", "device_tensor_from_numpy", "meta_tensor_no_storage",
    "nested_tensor", "parameter", "parameter_with_state", "qtensor", "sparse_tensor", "tensor",
    "tensor_v2", "tensor_v3", "wrapper_subclass",
)  # fmt: skip
ALLOWED = frozenset(
    {
        "_codecs.encode", "builtins.bytearray", "builtins.complex", "builtins.set",
        "collections.Counter", "collections.OrderedDict", "torch.Size", "torch.Tensor",
        "torch.device", "torch.nn.parameter.Parameter", "torch.serialization._get_layout",
        "torch._tensor._rebuild_from_type_v2", "torch.storage.TypedStorage",
        "torch.storage.UntypedStorage",
        *(f"torch.{name}Storage" for name in (*_ELEMENTS, *_QUANTISED)),
        *(f"torch.cuda.{name}Storage" for name in _ELEMENTS),
        *(f"torch{where}.{name}Tensor" for where in ("", ".cuda") for name in _TENSORS),
        *(f"torch{where}.sparse.{name}Tensor" for where in ("", ".cuda") for name in _SPARSE),
        *(f"torch.{name}" for name in (*_DTYPES, *_SCHEMES)),
        *(f"torch._utils._rebuild_{name}" for name in _REBUILD),
    }
)  # fmt: skip
"""What any process takes."""
AFTER_IMPORT = frozenset(
    {
        "torch._dynamo.decorators._DimRange",
        "torch.distributed._mesh_layout._FlatLayout", "torch.distributed._mesh_layout._MeshLayout",
        "torch.distributed.device_mesh.DeviceMesh", "torch.distributed.tensor.DTensor",
        "torch.distributed.tensor._dtensor_spec.DTensorSpec",
        "torch.distributed.tensor._dtensor_spec.ShardOrderEntry",
        "torch.distributed.tensor._dtensor_spec.TensorMeta",
        "torch.distributed.tensor.placement_types.Partial",
        "torch.distributed.tensor.placement_types.Replicate",
        "torch.distributed.tensor.placement_types.Shard",
        "torch.distributed.tensor.placement_types._StridedShard",
        "torch.nested._internal.nested_tensor.NestedTensor",
        "torch.nested._internal.nested_tensor._rebuild_njt",
    }
)  # fmt: skip
"""What it takes once ``torch.distributed.tensor`` or ``torch.nested`` is imported: no trust."""
_SHOWN = 2
_OLD_BUILTINS = "__builtin__"


def refused_names(names: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Of the names in a pickle, those that ``torch.load`` does not take by default.

    Args:
        names: Module and name of each, as the pickle has them.
    """
    dotted = (
        f"{'builtins' if module == _OLD_BUILTINS else module}.{name}" for module, name in names
    )
    return tuple(name for name in dotted if name not in ALLOWED and name not in AFTER_IMPORT)


def needs_trust(names: Iterable[tuple[str, str]]) -> str:
    """A note on loading, for the report; ``""`` where ``torch.load`` takes every name.

    Args:
        names: Module and name of each, as the pickle has them.
    """
    refused = refused_names(names)
    if not refused:
        return ""
    # What is not torch's own tells more: those of a module are the same in all files.
    listed = sorted(refused, key=lambda name: name.startswith("torch."))[:_SHOWN]
    more = f" and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
    return (
        f"loading needs trust: its pickle names {', '.join(name[:80] for name in listed)}{more}, "
        f"which weights_only=True refuses (torch {TORCH})"
    )
