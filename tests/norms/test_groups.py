"""Modules that are passed over by one name and one shape: none of them is a norm."""

import random

import pytest

from normcheck.norms.recognise import from_names
from normcheck.norms.recognise.groups import Group, modules_of, with_names_of_torch
from normcheck.norms.recognise.observation import is_observation_norm
from normcheck.saved.dtypes import FLOAT32
from normcheck.saved.tensors import TensorRef, contiguous_strides

_LEAVES = (
    "weight", "bias", "running_mean", "running_var", "num_batches_tracked", "scale", "gamma",
    "beta", "offset", "v", "tau", "loc", "initialized", "mean", "var", "std", "count", "_mean",
    "_var", "moving_mean", "moving_variance", "kernel", "sum", "ssq", "eps", "s", "t",
)  # fmt: skip
_SHAPES = ((), (1,), (8,), (8,), (8,), (8, 1, 1), (8, 4), (8, 4, 3, 3), (1, 8, 1, 1), (4, 8))


def tensor(shape: tuple[int, ...]) -> TensorRef:
    return TensorRef(FLOAT32, shape, contiguous_strides(shape), 0, None)


def state(chance: random.Random) -> dict[str, TensorRef]:
    """A few modules with names of tensors that norms have, and others; not all in one piece."""
    named: list[str] = []
    for number in range(chance.randrange(1, 8)):
        path = chance.choice((f"bn{number}", f"layers.{number}", "norm", "", f"dense/{number}"))
        join = "/" if "/" in path else "."
        leaves = chance.sample(_LEAVES, chance.choice((1, 1, 2, 2, 3, 4)))
        named += [f"{path}{join}{leaf}" if path else leaf for leaf in leaves]
    if chance.random() < 0.2:
        chance.shuffle(named)
    return {name: tensor(chance.choice(_SHAPES)) for name in named}


def one_by_one(tensors: dict[str, TensorRef]) -> list[Group]:
    """Each module with all of its tensors, nothing passed over."""
    groups: dict[str, Group] = {}
    for name, found in tensors.items():
        cut = name.rfind("/") if "/" in name.rpartition(".")[2] else name.rfind(".")
        path = name[: max(cut, 0)]
        group = groups.setdefault(path, Group(path, {}, len(groups)))
        group.leaves[name[cut + 1 :]] = found
    return list(groups.values())


@pytest.mark.parametrize("seed", range(400))
def test_no_norm_is_passed_over(seed: int) -> None:
    """Norms, their places and the weights around them are those of a look at every module."""
    tensors = state(random.Random(seed))  # noqa: S311
    modules = modules_of(tensors)
    groups = [with_names_of_torch(group) for group in one_by_one(tensors)]
    assert modules.positions == {group.path: group.position for group in groups}
    weights = [(g.position, g.leaves["weight"].shape) for g in groups if "weight" in g.leaves]
    around = list(zip(modules.weights.positions, modules.weights.shapes, strict=True))
    assert around == [(position, shape) for position, shape in weights if len(shape) > 1]
    likely = {group.path: group for group in modules.likely}
    assert list(likely) == sorted(likely, key=modules.positions.__getitem__)
    for group in groups:
        norm = from_names._recognise(group, {}, modules.weights)
        versioned = from_names._recognise(group, {group.path: 2}, modules.weights)
        if norm or versioned or is_observation_norm(group.leaves, group.named):
            assert likely[group.path] == group
