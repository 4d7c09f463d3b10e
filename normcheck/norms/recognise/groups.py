"""The tensors of a state dict by the modules that they belong to."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from sys import intern

from normcheck.norms.kinds import NormKind
from normcheck.norms.layer import Recognition
from normcheck.norms.recognise.statistics_names import (
    TORCH,
    StatisticsNames,
    as_in_torch,
    named_statistics,
)
from normcheck.often_made import often_made
from normcheck.saved.tensor_columns import shapes_of
from normcheck.saved.tensors import TensorRef


@often_made()
class Group:
    """The tensors of one module, by their last names, and where they stand in the order."""

    path: str
    leaves: dict[str, TensorRef]
    position: int
    named: StatisticsNames | None = None
    """Where it has running statistics under names that are not torch's; ``leaves`` has torch's."""


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of the layers between which norms stand, in the model's order."""

    positions: list[int]
    """Of their modules, ascending."""
    shapes: list[tuple[int, ...]]

    def add(self, position: int, shape: tuple[int, ...]) -> None:
        """Take in the weight of a module, where it is a matrix or a kernel."""
        if len(shape) >= 2:
            self.positions.append(position)
            self.shapes.append(shape)


@dataclass(frozen=True, slots=True)
class Modules:
    """The modules of a state dict: where each stands, and those that may be norms."""

    positions: dict[str, int]
    """By their paths."""
    weights: Weights
    likely: list[Group]
    """Those that can be a norm by the names and shapes of their tensors, in the model's order."""


_WEIGHT, _BIAS = "weight", "bias"
_ALONE = frozenset({"scale", *TORCH})
"""What can be all that a norm has; a weight can, too, if it is no matrix."""
_Leaf = tuple[str, str, tuple[int, ...]]
"""The last name of a tensor, its full name, its shape."""


def modules_of(tensors: Mapping[str, TensorRef], *, torch_names: bool = True) -> Modules:
    """The modules of a state dict.

    Nearly all of a large model's are told to be no norms by one name and one shape.

    Args:
        tensors: By full name, in the model's order.
        torch_names: Give statistics of other names those of torch.
    """
    positions: dict[str, int] = {}
    firsts: list[str] = []
    leaves: list[str] = []
    shapes: list[tuple[int, ...]] = []
    several: dict[int, list[_Leaf]] = {}
    for name, shape in zip(tensors, shapes_of(tensors), strict=True):
        path, _, leaf = name.rpartition(".")
        if "/" in leaf:  # Keras
            path = name[: name.rindex("/")]
            leaf = name[len(path) + 1 :]
        position = positions.setdefault(path, len(firsts))
        if position == len(firsts):
            firsts.append(name)
            leaves.append(intern(leaf))
            shapes.append(shape)
        else:
            first = (leaves[position], firsts[position], shapes[position])
            several.setdefault(position, [first]).append((leaf, name, shape))
    found = Modules(positions, Weights([], []), [])
    for path, position in positions.items():
        if position in several:
            _add(found, path, position, several[position], tensors, torch_names)
            continue
        leaf, shape = leaves[position], shapes[position]
        if leaf == _WEIGHT:
            found.weights.add(position, shape)
            if not is_norm_shaped(shape, None):
                continue
        elif leaf not in _ALONE:
            continue
        found.likely.append(Group(path, {leaf: tensors[firsts[position]]}, position))
    return found


def _add(
    found: Modules,
    path: str,
    position: int,
    leaves: list[_Leaf],
    tensors: Mapping[str, TensorRef],
    torch_names: bool,  # as it was given
) -> None:
    """Take in a module of several tensors."""
    shapes = {leaf: shape for leaf, _, shape in leaves}
    if len(shapes) == 2 and shapes.keys() == {_WEIGHT, _BIAS}:
        found.weights.add(position, shapes[_WEIGHT])
        if not is_norm_shaped(shapes[_WEIGHT], shapes[_BIAS]):
            return
        found.likely.append(
            Group(path, {leaf: tensors[name] for leaf, name, _ in leaves}, position)
        )
        return
    group = Group(path, {leaf: tensors[name] for leaf, name, _ in leaves}, position)
    if torch_names:
        group = with_names_of_torch(group)
    found.likely.append(group)
    if _WEIGHT in group.leaves:
        found.weights.add(position, group.leaves[_WEIGHT].shape)


def is_norm_shaped(weight: tuple[int, ...], bias: tuple[int, ...] | None) -> bool:
    """Whether a weight could be a norm's γ by its shape: one value a feature, β of the same."""
    if not weight:
        return False
    if bias is not None:
        return weight == bias
    return sum(length > 1 for length in weight) <= 1


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
    tensors = [tensor for group, _ in recognised for tensor in group.leaves.values()]
    if len({id(tensor.storage) for tensor in tensors}) == len(tensors):
        return recognised, {}  # each with bytes of its own, as nearly always
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
