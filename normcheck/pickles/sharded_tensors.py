"""``ShardedTensor``, as FSDP 1 saves it on each rank: the part that the rank holds, and its place.

Its state is ``(local_shards, metadata, process_group, sharding_spec, …)``; a shard has a
``tensor``, and the ``shard_offsets`` at which it begins in the whole.
"""

from normcheck.pickles.inert import Inert, attributes_of
from normcheck.saved.dtypes import DType
from normcheck.saved.tensors import TensorRef, TensorShard, tensor_without_data

_CLASS = "ShardedTensor"
PART = "a part of a tensor that is cut over ranks"


def part_of_rank(args: tuple[object, ...], state: object, dtype: DType | None) -> TensorRef | None:
    """What a rank holds of a ``ShardedTensor``; None of anything else.

    Args:
        args: Of ``_rebuild_wrapper_subclass``: class, dtype, whole size and more.
        state: What the tensor is given then.
        dtype: That in ``args``.

    Returns:
        The whole where one shard is all of it, a part that others can be put beside, or a tensor
        without values where the parts lie otherwise.
    """
    if not isinstance(state, tuple) or not state or not isinstance(state[0], list) or len(args) < 3:
        return None
    if not all(isinstance(shard, Inert) and _is_shard(shard) for shard in state[0]):
        return None
    if not getattr(args[0], "dotted", "").endswith(f".{_CLASS}"):
        return None
    if dtype is None:
        return None
    whole = tensor_without_data(dtype, args[2], PART)
    if not state[0]:
        return _nothing(whole)
    if len(state[0]) != 1:
        return tensor_without_data(dtype, args[2], f"{PART}, in {len(state[0])} pieces")
    local, offsets = _tensor(state[0][0]), _offsets(state[0][0])
    if not isinstance(local, TensorRef) or local.ndim != whole.ndim or len(offsets) != whole.ndim:
        return whole
    if local.shape == whole.shape:
        return local
    cut = [d for d in range(whole.ndim) if local.shape[d] != whole.shape[d]]
    if len(cut) != 1 or any(start for d, start in enumerate(offsets) if d != cut[0]):
        return whole
    return _part(whole, local, cut[0], offsets[cut[0]])


def _nothing(whole: TensorRef) -> TensorRef:
    """Of a rank beyond the last that holds a part."""
    if not whole.ndim:
        return whole
    return _part(whole, tensor_without_data(whole.dtype, (0, *whole.shape[1:]), PART), 0, None)


def _part(whole: TensorRef, local: TensorRef, dim: int, start: int | None) -> TensorShard:
    return TensorShard(
        whole.dtype, whole.shape, whole.strides, 0, None,
        note=whole.note, local=local, dim=dim, start=start,
    )  # fmt: skip


def _is_shard(shard: Inert) -> bool:
    return shard.class_path.endswith(".Shard")


def _tensor(shard: object) -> object:
    return attributes_of(shard).get("tensor")


def _offsets(shard: object) -> tuple[int, ...]:
    held = attributes_of(attributes_of(shard).get("metadata")).get("shard_offsets")
    if not isinstance(held, list | tuple) or not all(type(n) is int and n >= 0 for n in held):
        return ()
    return tuple(held)
