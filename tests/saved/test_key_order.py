"""Orders of keys that a tree of modules gives, and those that it cannot."""

import itertools
import random

import pytest
import torch
from torch import nn

from normcheck.saved.key_order import is_torn, mended, natural_keys, natural_order
from tests.norms.saved import FACTORIES, build


@pytest.mark.slow
@pytest.mark.parametrize("name", FACTORIES)
def test_models_are_whole(name: str) -> None:
    """Every architecture's own order is whole, and shuffled keys are whole again once mended."""
    names = list(build(name).state_dict())
    assert not is_torn(names)
    shuffled = mended({names[i]: i for i in torch.randperm(len(names)).tolist()})
    assert shuffled == {name: i for i, name in enumerate(names)}
    assert not is_torn(shuffled)


def test_own_parameters_beside_children() -> None:
    """A module's own tensors, of itself and of its parent, tear nothing."""
    assert not is_torn(["scale", "a.scale", "a.b.weight", "a.shift", "c.weight", "bias"])


@pytest.mark.parametrize(
    "names",
    [
        ["stem.conv.weight", "block.weight", "stem.norm.weight"],
        ["a.weight", "b.weight", "a.bias"],
        ["layer.1.weight", "layer.0.weight"],
        ["layer.0.weight", "layer.10.weight", "layer.2.weight"],
    ],
)
def test_torn(names: list[str]) -> None:
    """One module's keys apart, numbers that run backwards, numbers sorted as text."""
    assert is_torn(names)
    assert not is_torn(mended(dict.fromkeys(names)))


def test_mending_numbered_blocks() -> None:
    """Whatever order its keys came in, numbered modules are back in theirs."""
    model = nn.Sequential(*(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)) for _ in range(12)))
    names = list(model.state_dict())
    torch.manual_seed(0)
    shuffled = [names[i] for i in torch.randperm(len(names))]
    paths = [name.rpartition(".")[0] for name in mended(dict.fromkeys(shuffled))]
    assert [path for path, _ in itertools.groupby(paths)] == [
        path for path, _ in itertools.groupby(name.rpartition(".")[0] for name in names)
    ]


def test_nested_without_end() -> None:
    """Names of thousands of parts end, too."""
    deep = [".".join(["a"] * 5_000) + f".{i}" for i in range(20)]
    assert set(mended(dict.fromkeys(deep))) == set(deep)
    assert not is_torn(deep)


@pytest.mark.parametrize("alphabet", ["ab.1209_- z/", "a.0\u0663\u0660é", "a1.\0"])
def test_keys_sort_as_the_natural_order_does(alphabet: str) -> None:
    """Any names, those with numbers of other scripts and of twenty digits among them."""
    chance = random.Random(alphabet)  # noqa: S311
    for _ in range(500):
        names = ["".join(chance.choices(alphabet, k=chance.randrange(8))) for _ in range(9)]
        names += [f"a{'1' * chance.randrange(18, 23)}"] * chance.randrange(2)
        keys = dict(zip(names, natural_keys(names), strict=True))
        assert sorted(names, key=keys.__getitem__) == sorted(names, key=natural_order)
