"""The values of a live tensor, whatever its class: through its own methods, or not at all.

A tensor's memory is looked at only where it is the tensor's own: strided, there, and large
enough. Subclasses that wrap other tensors (``DTensor``, quantised weights, what compilers trace
with) have a storage in name only, whose address is 0 or somebody else's; reading it ends the
process. They are asked for their values as a user would ask, and where they give none, the
reason is kept.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.sources.limits import DEFAULT_LIMITS

_PLAIN = frozenset({Tensor, nn.Parameter})


@lazy_dataclass()
class ValueAccess:
    """How the values of one tensor can be had."""

    take: Callable[[], Tensor] | None = None
    """Makes a plain strided tensor with the values; None where there is no way."""
    memory: torch.UntypedStorage | None = None
    """Where they lie as they are, so that nothing has to be made."""
    reason: str = ""
    """Why there is no way."""
    absent: bool = False
    """Whether the tensor has no values at all now, so that nothing can be computed with it."""
    cut: int | None = None
    """The dimension along which the whole is cut over processes; ``take`` gives the part that
    this one holds."""


def reading_of(tensor: Tensor) -> ValueAccess:
    """How to read a tensor, found out without touching memory that is not its own.

    Nothing of it is kept, and the tensor is not changed. A wrapper is asked once, to see
    whether it answers.

    Args:
        tensor: Of any class, on any device.
    """
    try:
        reason, absent = without_values(tensor)
        if reason:
            return ValueAccess(reason=reason, absent=absent)
        memory = own_memory(tensor)
        with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001
            quantised = tensor.is_quantized
        if memory is not None and not quantised:
            return ValueAccess(memory=memory)
        return _asked(tensor)
    except Exception as error:  # code of the subclass, which may raise anything
        return ValueAccess(reason=f"{named(tensor)}: {_brief(error)}")


def own_memory(tensor: Tensor, *, freed: bool = False) -> torch.UntypedStorage | None:
    """The storage whose bytes are the tensor's own; None where it has none to be looked at.

    None for wrappers, tensors inside of a ``torch.func`` transform or a trace, sparse, nested and
    meta tensors, and where the storage is smaller than the tensor, as after ``resize_(0)``.

    Args:
        tensor: Of any class, on any device.
        freed: Also return a storage that is too small for its tensor now.
    """
    kind = type(tensor)
    if kind not in _PLAIN and _dispatches(kind):
        return None
    try:
        with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001  (no code of the class)
            if _of_a_transform(tensor) or tensor.layout != torch.strided or tensor.is_nested:
                return None
            if tensor.is_meta or tensor._is_zerotensor():  # noqa: SLF001
                return None
            memory = tensor.untyped_storage()
            if memory.device.type == "meta":
                return None
            held = memory.nbytes()
            if held and not memory.data_ptr():
                return None
            if not freed and _bytes_needed(tensor) > held:
                return None
    except (NotImplementedError, RuntimeError, AttributeError):
        return None  # devices without storages
    return memory


def address_of(tensor: Tensor) -> int | None:
    """Where a tensor's first element lies; None where it has no memory of its own, or no element.

    An identity of memory. The address of a wrapper is 0, as is that of any other.
    """
    return None if own_memory(tensor) is None else tensor.data_ptr() or None


def inner_tensors(tensor: Tensor) -> list[Tensor]:
    """The tensors that a wrapper is made of; empty for any other, and for one half made."""
    if not _dispatches(type(tensor)) or not hasattr(tensor, "__tensor_flatten__"):
        return []
    try:
        names, _ = tensor.__tensor_flatten__()
        found = [getattr(tensor, name, None) for name in names]
    except Exception:  # code of the class, on an instance that is only half made
        return []
    return [inner for inner in found if isinstance(inner, Tensor) and inner is not tensor]


def is_sparse_or_nested(tensor: Tensor) -> bool:
    """Whether it is one of torch's own kinds that lie in several tensors, or are packed."""
    if _dispatches(type(tensor)):
        return False
    with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001
        if _of_a_transform(tensor) or tensor.is_meta:
            return False
        return tensor.layout != torch.strided or tensor.is_nested


def shape_of(tensor: Tensor) -> tuple[int, ...]:
    """The lengths of the dimensions; 0 for one that is no single number, and () for no shape."""
    try:
        return tuple(n if type(n) is int else 0 for n in tensor.shape)
    except Exception:  # nested tensors have none, and half-made wrappers raise anything
        return ()


def named(tensor: Tensor) -> str:
    """The class in words: ``a DTensor``, ``a quantised tensor``."""
    name = type(tensor).__name__
    return f"{'an' if name[:1] in 'AEIOUaeiou' else 'a'} {name}"


def _dispatches(kind: type) -> bool:
    """Whether operators on the class run code of its own, so that its storage means nothing."""
    own = getattr(kind, "__torch_dispatch__", None)
    return own is not torch.Tensor.__torch_dispatch__


def _of_a_transform(tensor: Tensor) -> bool:
    wrapped: bool = torch._C._functorch.is_functorch_wrapped_tensor(tensor)  # noqa: SLF001
    return wrapped or torch._is_functional_tensor(tensor)  # noqa: SLF001


def _bytes_needed(tensor: Tensor) -> int:
    """Up to where in its storage the tensor reaches."""
    if tensor.numel() == 0:
        return 0
    lengths = zip(tensor.shape, tensor.stride(), strict=True)
    last = tensor.storage_offset() + sum((n - 1) * step for n, step in lengths)
    return int(last + 1) * tensor.element_size()


def without_values(tensor: Tensor) -> tuple[str, bool]:
    """Why a tensor has no values, and whether nothing can be computed with it; ``""`` otherwise."""
    if isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer):
        return "a lazy layer that never ran", True
    with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001
        if torch._C._functorch.is_functorch_wrapped_tensor(tensor):  # noqa: SLF001
            return "a tensor inside of a torch.func transform", True
    traced = any(kind.__module__.startswith("torch._subclasses.") for kind in type(tensor).__mro__)
    if traced or torch._is_functional_tensor(tensor):  # noqa: SLF001
        return f"{named(tensor)} stands for a value in a trace, and has none", True
    with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001
        if tensor.is_meta:
            return "a meta tensor", True
        if tensor.is_nested:
            return "a nested tensor, whose parts have lengths of their own", False
    if type(tensor) in _PLAIN or not _dispatches(type(tensor)):
        with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001
            return _without_memory(tensor)
    return "", False


def _without_memory(tensor: Tensor) -> tuple[str, bool]:
    if tensor.layout != torch.strided or tensor._is_zerotensor():  # noqa: SLF001
        return "", False
    try:
        held = tensor.untyped_storage().nbytes()
    except (NotImplementedError, RuntimeError):
        return "", False  # a device without storages: its own copy is asked for
    if _bytes_needed(tensor) > held:
        return f"its memory was given back: a storage of {held:,} bytes", True
    return "", False


def _asked(tensor: Tensor) -> ValueAccess:
    """A way that a user would take, tried once."""
    size = tensor.numel() * max(tensor.element_size(), 4)
    if size > DEFAULT_LIMITS.tensor_bytes:
        return ValueAccess(reason=f"{named(tensor)} takes {size:,} bytes when it is written out")
    if is_distributed(tensor):
        return _local(tensor)
    take = _way(tensor)
    made = take()
    if own_memory(made) is None or made.shape != tensor.shape or made.is_quantized:
        return ValueAccess(reason=f"{named(tensor)} gives no plain tensor")
    return ValueAccess(take)


def is_distributed(tensor: Any) -> bool:
    """Whether it is a ``DTensor``; not asked by its class, which need not be there."""
    return hasattr(tensor, "to_local") and hasattr(tensor, "placements")


def _local(tensor: Any) -> ValueAccess:
    """What this process holds: the whole would have to be gathered from all of them."""

    def take() -> Tensor:
        with torch.no_grad():
            local = tensor.to_local()
            return local.wait() if hasattr(local, "wait") else local  # type: ignore[no-any-return]

    if any(placement.is_partial() for placement in tensor.placements):
        return ValueAccess(reason="a DTensor that is still to be summed over processes")
    local = take()
    inside = reading_of(local)
    if inside.reason:
        return ValueAccess(reason=f"a DTensor over {inside.reason}", absent=inside.absent)
    if inside.take is not None:
        own, whole = inside.take, local.shape == tensor.shape
        return ValueAccess(own) if whole else ValueAccess(reason=f"a DTensor over {named(local)}")
    if local.shape == tensor.shape:
        return ValueAccess(take)
    held = "x".join(map(str, local.shape))
    whole_shape = "x".join(map(str, tensor.shape))
    uneven = [d for d, (n, m) in enumerate(zip(local.shape, tensor.shape, strict=True)) if n != m]
    reason = f"a DTensor of which this process holds a part, {held} of {whole_shape}"
    return ValueAccess(take, reason=reason, cut=uneven[0] if len(uneven) == 1 else None)


def _way(tensor: Any) -> Callable[[], Tensor]:
    kind = type(tensor)
    with_dequantize = getattr(kind, "dequantize", None) is not Tensor.dequantize
    if tensor.is_quantized or (_dispatches(kind) and with_dequantize):
        return lambda: _detached(tensor.detach().dequantize())
    if _dispatches(kind) and getattr(kind, "to_dense", None) is Tensor.to_dense:
        return lambda: _copied(tensor)
    if tensor.layout != torch.strided or _dispatches(kind):
        return lambda: _detached(tensor.detach().to_dense())
    return lambda: _copied(tensor)


def _detached(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous()


def _copied(tensor: Tensor) -> Tensor:
    """A plain tensor into which the class itself wrote its values.

    Written twice, over zeros and over ones: a class that writes nothing, as those without values
    do, leaves a difference.
    """
    with torch.no_grad():
        first, second = (
            torch.full(tuple(tensor.shape), fill, dtype=tensor.dtype) for fill in (0, 1)
        )
        first.copy_(tensor.detach())
        second.copy_(tensor.detach())
    if not torch.equal(first.view(torch.uint8), second.view(torch.uint8)):
        raise RuntimeError("it copies no values")
    return first


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:120]}" if text else type(error).__name__
