"""The tensors of a state dict by the modules that they belong to."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from normcheck.norms.kinds import NormKind
from normcheck.norms.layer import Recognition
from normcheck.norms.recognise.statistics_names import (
    StatisticsNames,
    as_in_torch,
    named_statistics,
)
from normcheck.saved.tensors import TensorRef


@dataclass(frozen=True, slots=True)
class Group:
    """The tensors of one module, by their last names, and where they stand in the order."""

    path: str
    leaves: dict[str, TensorRef]
    position: int
    named: StatisticsNames | None = None
    """Where it has running statistics under names that are not torch's; ``leaves`` has torch's."""


def grouped(tensors: Mapping[str, TensorRef]) -> list[Group]:
    """The modules of a state dict, in its order."""
    groups: dict[str, Group] = {}
    for name, tensor in tensors.items():
        path, _, leaf = name.rpartition(".")
        if "/" in leaf:  # Keras
            path = name[: name.rindex("/")]
            leaf = name[len(path) + 1 :]
        group = groups.get(path)
        if group is None:
            group = groups[path] = Group(path, {}, len(groups))
        group.leaves[leaf] = tensor
    return list(groups.values())


def with_names_of_torch(group: Group) -> Group:
    """A module whose statistics have other names, with those of torch."""
    named = named_statistics(group.leaves)
    if named is None:
        return group
    leaves = as_in_torch(group.leaves, named)
    if not named.of_a_norm(leaves):
        return group
    return replace(group, leaves=leaves, named=named)


Recognised = tuple[Group, tuple[NormKind, Recognition] | None]


def without_aliases(
    recognised: list[Recognised],
) -> tuple[list[Recognised], dict[str, list[str]]]:
    """Each norm under the first of its names, and its other names by that.

    ``torch.save`` keeps which tensors are one and the same: a module that sits at four places of
    a model has four names in its state dict.
    """
    first: dict[tuple[object, ...], str] = {}
    aliases: dict[str, list[str]] = {}
    kept: list[Recognised] = []
    for group, known in recognised:
        same = tuple((leaf, *_place(tensor)) for leaf, tensor in sorted(group.leaves.items()))
        if any(storage is None for _, storage, *_ in same):
            kept.append((group, known))
            continue
        path = first.setdefault(same, group.path)
        if path == group.path:
            kept.append((group, known))
        else:
            aliases.setdefault(path, []).append(group.path)
    return kept, aliases


def _place(tensor: TensorRef) -> tuple[int | None, int, tuple[int, ...], tuple[int, ...]]:
    """Where a tensor's numbers lie; None first where it has none of its own."""
    stored = tensor.storage if tensor.readable and tensor.numel else None
    return (id(stored) if stored else None, tensor.offset, tensor.shape, tensor.strides)
