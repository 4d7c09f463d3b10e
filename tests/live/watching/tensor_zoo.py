"""Tensors of every class that the installed packages define, and of every kind that torch makes.

Run as a program: ``python -m tests.live.watching.tensor_zoo NAME…`` reads the tensors of these
names, each in a module of its own, and prints a line of JSON for each. A process that dies of one
is then seen by who started it.
"""

import faulthandler
import importlib
import json
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

_DEFINES = re.compile(r"^class \w+\([^)]*Tensor\b[^)]*\)", re.MULTILINE)
"""A class with a tensor among its bases, as it is written."""
VALUES = torch.arange(1.0, 17.0).reshape(4, 4)


def defining_modules() -> list[str]:
    """Modules of torch, and of the packages beside it, which define tensor subclasses.

    By their text: not every package that extends torch says that it needs it.
    """
    found = []
    for distribution in metadata.distributions():
        for file in distribution.files or ():
            if file.suffix != ".py" or not re.fullmatch(r"[\w/]+\.py", file.as_posix()):
                continue
            try:
                text = Path(str(file.locate())).read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            if _DEFINES.search(text) and "torch" in text:
                found.append(".".join(file.with_suffix("").parts).removesuffix(".__init__"))
    return sorted(set(found))


def subclasses() -> dict[str, type[Tensor]]:
    """Every subclass of a tensor that can be imported here, by its dotted name."""
    for name in defining_modules():
        try:
            importlib.import_module(name)
        except BaseException as error:  # a package that is not whole, or wants a device
            if isinstance(error, KeyboardInterrupt):
                raise
    found: dict[str, type[Tensor]] = {}
    stack = [Tensor]
    while stack:
        for kind in stack.pop().__subclasses__():
            name = f"{kind.__module__}.{kind.__qualname__}"
            if name not in found:
                found[name] = kind
                stack.append(kind)
    return found


def instances(kind: type[Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Instances of a class by every way that works: whole ones, and ones that are half made."""
    ways: dict[str, Callable[[], Any]] = {
        "called with a tensor": lambda: kind(VALUES.clone()),  # type: ignore[call-arg]
        "called with two": lambda: kind(VALUES.clone(), VALUES.clone()),  # type: ignore[call-arg]
        "_make_subclass": lambda: Tensor._make_subclass(kind, VALUES.clone()),
        "_make_wrapper_subclass": lambda: Tensor._make_wrapper_subclass(kind, (4, 4)),
        "as_subclass": lambda: VALUES.clone().as_subclass(kind),
        "__new__": lambda: kind.__new__(kind),
    }
    for name in ("from_float", "from_hp", "from_plain", "from_tensor"):
        if hasattr(kind, name):
            ways[name] = lambda name=name: getattr(kind, name)(VALUES.clone())  # type: ignore[misc]
    for way, make in ways.items():
        try:
            made = make()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            continue
        if isinstance(made, Tensor):
            yield way, made


class Refuses(Tensor):
    """A wrapper that implements nothing."""

    @staticmethod
    def __new__(cls) -> Self:
        return Tensor._make_wrapper_subclass(cls, (4, 4), dtype=torch.float32)

    @classmethod
    def __torch_dispatch__(cls, *_args: Any, **_kwargs: Any) -> Any:
        return NotImplemented


class Silent(Refuses):
    """A wrapper that answers every operator without doing anything."""

    @classmethod
    def __torch_dispatch__(cls, func: Any, _types: Any, args: Any = (), _kwargs: Any = None) -> Any:
        return args[0] if args else None


class Raising(Tensor):
    """A plain subclass whose attributes raise, as some that only trace do."""

    @classmethod
    def __torch_function__(cls, *_args: Any, **_kwargs: Any) -> Any:
        raise RuntimeError("not to be asked")


class Wraps(Tensor):
    """A wrapper that computes with the tensor inside."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Self:
        made = Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def bare(value: Any) -> Any:
            return value.inner if isinstance(value, Wraps) else value

        result = func(*map(bare, args), **{k: bare(v) for k, v in (kwargs or {}).items()})
        return cls(result) if isinstance(result, Tensor) and result.ndim else result


def _freed() -> Tensor:
    tensor = VALUES.clone()
    tensor.untyped_storage().resize_(0)
    return tensor


def _escaped(transform: Callable[..., Any]) -> Tensor:
    held: list[Tensor] = []

    def function(x: Tensor) -> Tensor:
        held.append(x)
        return x.sum()

    transform(function)(VALUES.clone())
    return held[0]


def _functional() -> Tensor:
    from torch._subclasses.functional_tensor import FunctionalTensor, FunctionalTensorMode

    with FunctionalTensorMode():
        return FunctionalTensor.to_functional(VALUES.clone())


def _fake() -> Tensor:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        return torch.ones(4, 4)


def _distributed(placement: str) -> Tensor:
    import torch.distributed as dist
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    if not dist.is_initialized():
        dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    kind = {"shard": Shard(0), "whole": Replicate(), "sum": Partial()}[placement]
    return DTensor.from_local(VALUES.clone(), mesh, [kind])


class WithoutIndex(nn.Parameter):
    """A parameter of a class of its own."""


KINDS: dict[str, Callable[[], Tensor]] = {
    "plain": VALUES.clone,
    "parameter": lambda: nn.Parameter(VALUES.clone()),
    "parameter subclass": lambda: WithoutIndex(VALUES.clone()),
    "transposed": lambda: VALUES.clone().T,
    "view": lambda: torch.arange(32.0)[3:19].view(4, 4),
    "negated": lambda: torch._neg_view(VALUES.clone()),
    "conjugated": lambda: torch.complex(VALUES, VALUES).conj(),
    "half": VALUES.bfloat16,
    "float8": lambda: VALUES.to(torch.float8_e4m3fn),
    "empty": lambda: torch.empty(0, 4),
    "copy on write": lambda: VALUES.clone()._lazy_clone(),
    "expanded": lambda: torch.ones(1).expand(4, 4),
    "meta": lambda: torch.empty(4, 4, device="meta"),
    "freed": _freed,
    "zero": lambda: torch._efficientzerotensor((4, 4)),
    "quantised": lambda: torch.quantize_per_tensor(VALUES, 0.1, 0, torch.qint8),
    "quantised by channel": lambda: torch.quantize_per_channel(
        VALUES, torch.ones(4), torch.zeros(4), 0, torch.qint8
    ),
    "sparse": VALUES.to_sparse,
    "sparse rows": VALUES.to_sparse_csr,
    "mkldnn": VALUES.to_mkldnn,
    "nested": lambda: torch.nested.nested_tensor([torch.ones(3), torch.ones(4)]),
    "jagged": lambda: torch.nested.nested_tensor(
        [torch.ones(3), torch.ones(4)], layout=torch.jagged
    ),
    "bits": lambda: torch.empty(4, dtype=torch.bits8),
    "float4": lambda: torch.zeros(4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
    "lazy": nn.UninitializedParameter,
    "batched": lambda: _escaped(torch.vmap),
    "differentiated": lambda: _escaped(torch.func.grad),
    "functional": _functional,
    "functionalised": lambda: torch._to_functional_tensor(VALUES.clone()),
    "fake": _fake,
    "refuses": Refuses,
    "silent": Silent,
    "raising": lambda: VALUES.clone().as_subclass(Raising),
    "wraps": lambda: Wraps(VALUES.clone()),
    "wraps nothing": lambda: Tensor._make_wrapper_subclass(Wraps, (4, 4)),
    "shard": lambda: _distributed("shard"),
    "whole": lambda: _distributed("whole"),
    "sum": lambda: _distributed("sum"),
}


def expected(tensor: Tensor) -> Tensor | None:
    """The values by the class's own documented way to them; None where it has none."""
    with torch._C.DisableTorchFunctionSubclass():
        if not hasattr(type(tensor), "__tensor_flatten__") and tensor.is_quantized:
            return tensor.dequantize()
    for way in ("dequantize", "to_dense", "full_tensor", "to_local"):
        own = getattr(type(tensor), way, None)
        if own is None or (own is getattr(Tensor, way, None) and way != "to_dense"):
            continue
        try:
            found = getattr(tensor.detach(), way)()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            continue
        if isinstance(found, Tensor) and type(found) is Tensor and not found.is_quantized:
            return found
    return None


def look(tensor: Tensor) -> dict[str, Any]:
    """What becomes of a tensor as a buffer of a module that is described, and run over."""
    from normcheck.live.watching.live_records import described
    from normcheck.live.watching.untouched import untouched
    from normcheck.saved.tensors import TensorShard
    from normcheck.saved.unread_tensors import unread_tensors

    module = nn.Sequential(nn.Linear(4, 4))
    module[0]._buffers["extra"] = tensor
    with untouched(module):
        saved = described(module, modes_known=True)
    assert module[0]._buffers["extra"] is tensor
    ref = saved.tensors["0.extra"]
    named = unread_tensors(saved).get("0.extra", "")
    part = ref.local if isinstance(ref, TensorShard) else None
    readable = ref if ref.readable else part
    outcome: dict[str, Any] = {"named": named, "read": ref.readable, "part": part is not None}
    if readable is not None:
        values = torch.from_numpy(readable.values().copy())
        outcome["values"] = str(values.flatten().tolist()[:4])
        with torch.no_grad():
            known = expected(tensor)
        if known is not None and known.shape == values.shape:
            outcome["equal"] = bool(torch.equal(values.to(known.dtype), known.resolve_neg().cpu()))
    return outcome


def main(names: list[str]) -> None:
    """Look at the tensors of these names; without any, at instances of all subclasses."""
    faulthandler.enable()
    warnings.simplefilter("ignore")
    if names:
        every = ((name, [("", KINDS[name]())]) for name in names)
    else:
        every = ((name, instances(kind)) for name, kind in subclasses().items())
    for name, made in every:
        for way, tensor in made:
            _say(name=name, way=way)
            _say(name=name, way=way, **look(tensor))


def _say(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
