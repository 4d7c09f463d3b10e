"""Tensors that share their bytes with those that are repaired."""

from collections.abc import Iterator, Sequence

from normcheck.repair.editing.named_tensors import all_tensors
from normcheck.repair.editing.tensor_edits import NotInPlaceError
from normcheck.repair.repair_result import ModelRepair
from normcheck.saved.checkpoint import Checkpoint
from normcheck.saved.tensors import TensorRef


def check_ties(checkpoint: Checkpoint, models: Sequence[ModelRepair]) -> None:
    """Refuse to change bytes that belong to something else as well.

    Raises:
        NotInPlaceError: A tensor that is not to be repaired lies over one that is.
    """
    spans: dict[int, list[tuple[int, int, str]]] = {}
    repaired: set[tuple[str, str]] = set()
    for model in models:
        for change in model.changes:
            repaired.add((model.where, change.name))
            if change.ref is not None:
                storage, first, last = _span(change.ref)
                spans.setdefault(storage, []).append((first, last, change.name))
    for where, name, ref in _tensors(checkpoint):
        if (where, name) in repaired or ref.storage is None or ref.numel == 0:
            continue
        storage, first, last = _span(ref)
        for start, end, changed in spans.get(storage, ()):
            if first < end and start < last:
                raise NotInPlaceError(
                    f"{changed} shares its bytes with {name}"
                    + (f" under {where!r}" if where else "")
                    + ", which is not repaired",
                    "name both models with --where, or load the file, break the tie and save it",
                )


def _tensors(checkpoint: Checkpoint) -> Iterator[tuple[str, str, TensorRef]]:
    for saved in checkpoint.models:
        for name, ref in all_tensors(saved).items():
            yield saved.where, name, ref


def _span(ref: TensorRef) -> tuple[int, int, int]:
    """Identity of the storage below a tensor, and the bytes of it that the tensor spans."""
    assert ref.storage is not None  # noqa: S101  (asked of tensors with bytes)
    storage, start = ref.storage, ref.offset * ref.dtype.itemsize
    while storage.root is not None:
        start += storage.start
        storage = storage.root
    steps = sum((n - 1) * s for n, s in zip(ref.shape, ref.strides, strict=True))
    return id(storage), start, start + (steps + 1) * ref.dtype.itemsize
