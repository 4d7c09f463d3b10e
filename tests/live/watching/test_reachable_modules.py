"""Modules that hang in a model in other ways than as attributes of modules."""

import functools
import types
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from normcheck.live.watching.reachable_modules import reachable

pytestmark = [pytest.mark.slow, pytest.mark.kernels]


class Holder:
    """An object of the user's."""

    def __init__(self, **parts: Any) -> None:
        vars(self).update(parts)

    def call(self, x: Tensor) -> Tensor:
        return x


@dataclass(slots=True)
class Slotted:
    norm: nn.Module


def closure(norm: nn.Module) -> Callable[[Tensor], Tensor]:
    def call(x: Tensor) -> Tensor:
        return norm(x) + 0

    return call


def default(norm: nn.Module) -> Callable[[Tensor], Tensor]:
    def call(x: Tensor, by: nn.Module = norm) -> Tensor:
        return by(x)

    return call


def keyword_default(norm: nn.Module) -> Callable[[Tensor], Tensor]:
    def call(x: Tensor, *, by: nn.Module = norm) -> Tensor:
        return by(x)

    return call


PLACES: dict[str, tuple[Callable[[nn.Module], object], str]] = {
    "list": (lambda n: [1, n], "part[1]"),
    "tuple": (lambda n: (n,), "part[0]"),
    "dict": (lambda n: {"a": n}, "part['a']"),
    "dict by number": (lambda n: {3: n}, "part[3]"),
    "set": (lambda n: {n}, "part{}"),
    "frozenset": (lambda n: frozenset({n}), "part{}"),
    "nested": (lambda n: {"a": [(n,)]}, "part['a'][0][0]"),
    "partial": (functools.partial, "part.func"),
    "argument of a partial": (lambda n: functools.partial(max, n), "part.args[0]"),
    "keyword of a partial": (lambda n: functools.partial(max, key=n), "part.keywords['key']"),
    "bound method": (lambda n: n.forward, "part.__self__"),
    "method of an object": (lambda n: Holder(norm=n).call, "part.__self__.norm"),
    "closure": (closure, "part (closure over norm)"),
    "default": (default, "part (default 0)"),
    "lambda": (lambda n: lambda x: n(x) + 0, "part (closure over n)"),
    "object": (lambda n: Holder(norm=n), "part.norm"),
    "object within an object": (lambda n: Holder(a=Holder(b=[n])), "part.a.b[0]"),
}


def hidden(part: object) -> list[str]:
    model = nn.Sequential(nn.Linear(2, 2))
    model.part = part
    return [entry.path for entry in reachable(model) if not entry.registered]


@pytest.mark.parametrize("name", PLACES)
def test_hidden_modules(name: str) -> None:
    """A module is found wherever a forward can call it from, by a path that tells where."""
    build, path = PLACES[name]
    assert hidden(build(nn.BatchNorm1d(2))) == [path]


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(keyword_default, id="keyword default"),
        pytest.param(Slotted, id="slots"),
        pytest.param(lambda n: deque([n]), id="deque"),
        pytest.param(lambda n: types.SimpleNamespace(norm=n), id="namespace"),
    ],
)
def test_further_places(build: Callable[[nn.Module], object]) -> None:
    """Keyword-only defaults, slots, deques and namespaces hold modules as well."""
    assert len(hidden(build(nn.BatchNorm1d(2)))) == 1


def test_children_of_hidden_modules() -> None:
    """A hidden module brings its children, and those that hide in them."""
    outer = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    outer[0].more = [nn.Dropout()]
    assert hidden([outer]) == ["part[0]", "part[0].0", "part[0].1", "part[0].0.more[0]"]


def test_registered_comes_first_and_once() -> None:
    """What is registered anywhere is registered, under its first path, and not listed again."""
    norm = nn.BatchNorm1d(2)
    model = nn.Sequential(nn.Linear(2, 2), norm, norm)
    model.cache = {"norm": norm, "list": [model, model[0]]}
    found = reachable(model)
    assert [(e.path, e.registered) for e in found] == [("", True), ("0", True), ("1", True)]
    assert found[2].module is norm


def test_modules_behind_tensors_and_libraries_are_not_looked_for() -> None:
    """Objects of torch, numpy and Python, types and texts hold no modules of the model's."""
    assert hidden([torch.ones(3), torch.optim.SGD([torch.ones(1)]), nn.Linear, "text"]) == []


def test_rings() -> None:
    """Objects that hold each other are gone through once."""
    first, second = Holder(), Holder()
    first.other, second.other, second.norm = second, first, nn.BatchNorm1d(2)
    ring: list[Any] = [first]
    ring.append(ring)
    assert hidden(ring) == ["part[0].other.norm"]


def test_search_has_a_cap() -> None:
    """Many lists, and lists nested deeper than any model has them, are not gone through whole."""
    wide = [[i] for i in range(300_000)] + [[nn.BatchNorm1d(2)]]
    assert hidden(list(range(1_000_000))) == []
    assert hidden(wide) == []
    deep: list[Any] = [nn.BatchNorm1d(2)]
    for _ in range(50):
        deep = [deep]
    assert hidden(deep) == []


def test_a_long_list_does_not_hide_what_comes_after_it() -> None:
    """A vocabulary of many words before a list of norms leaves the norms to be found."""
    model = nn.Sequential(nn.Linear(2, 2))
    model.vocabulary = {f"word {i}": i for i in range(150_000)}
    model.norms = [nn.BatchNorm1d(2)]
    assert [entry.path for entry in reachable(model)] == ["", "0", "norms[0]"]
