"""After a probe everything is as it was: each nasty case by itself."""

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from normcheck import scan
from normcheck.live.watching.untouched import untouched
from tests.live.watching.test_untouched import X, assert_untouched, net, own_switches


@pytest.fixture(autouse=True)
def _switches() -> Iterator[None]:
    with own_switches():
        yield


def test_lazy_module_gets_its_class_back() -> None:
    """A lazy module that the body materialised is of the lazy class again, with its hooks."""
    model = nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d())
    with untouched(model):
        model(X)
        assert type(model[0]) is nn.Linear
    assert type(model[0]) is nn.LazyLinear
    assert type(model[1]) is nn.LazyBatchNorm1d
    assert model[0]._forward_pre_hooks


def test_lazy_parameters_are_without_values_again() -> None:
    """A lazy module that the body materialised can be materialised for another width."""
    model = nn.Sequential(nn.LazyLinear(3))
    assert_untouched(model, lambda: model(X))
    assert model(torch.ones(2, 9)).shape == (2, 3)


def test_storage_that_was_emptied() -> None:
    """Memory that the body gave back, as sharded training does, has its size and bytes again."""
    model = net()
    assert_untouched(model, lambda: model[0].weight.untyped_storage().resize_(0))
    assert_untouched(model, lambda: model[1].running_var.resize_(100).fill_(3))


def test_views_of_one_storage() -> None:
    """Parameters that are views of one flat buffer stay views of it."""
    model = net()
    flat = torch.arange(20.0)
    model[0].weight.data, model[0].bias.data = flat[:16].view(4, 4), flat[16:]
    model[2].register_buffer("flat", flat)

    def body() -> None:
        flat.neg_()
        model[0].weight.data = torch.zeros(2)
        model.double()

    assert_untouched(model, body)
    flat[16] = 42
    assert model[0].bias[0] == 42


def test_other_views_of_the_same_memory() -> None:
    """A parameter that was pointed elsewhere in its own memory points where it did."""
    model = net()
    flat = torch.arange(8.0)
    model.register_buffer("part", flat[:4])

    def body() -> None:
        model[0].weight.data = model[0].weight.data.t()
        model.part.data = flat[4:]

    assert_untouched(model, body)


def test_empty_storages_are_told_apart() -> None:
    """Tensors without elements have no address, and still each its own size."""
    model = net()
    model.register_buffer("a", torch.zeros(0))
    model.register_buffer("b", torch.zeros(0))
    assert_untouched(model, lambda: (model.a.resize_(3), model.b.resize_(5)))


def test_buffer_updated_with_its_graph() -> None:
    """A running mean that was updated without detach() has no graph afterwards."""
    model = net()
    model.register_buffer("mean", torch.zeros(4))
    assert_untouched(model, lambda: model.mean.lerp_(model(X).mean(0), 0.1))


def test_removed_parametrization() -> None:
    """A weight norm that eval() or the first forward folds in works again afterwards."""
    model = parametrizations.weight_norm(nn.Linear(4, 4))
    weight = model.weight.detach().clone()
    assert_untouched(model, lambda: parametrize.remove_parametrizations(model, "weight"))
    assert torch.equal(model.weight, weight)


def test_added_parametrization() -> None:
    """A parametrization that the body adds is gone, with the class that torch made for it."""
    model = nn.Linear(4, 4)
    assert_untouched(model, lambda: parametrizations.spectral_norm(model))
    assert type(model) is nn.Linear


def test_sparse_buffer() -> None:
    """The values of a sparse buffer come back as well."""
    model = net()
    model.register_buffer("graph", torch.eye(3).to_sparse().coalesce())
    assert_untouched(model, lambda: model.graph.mul_(2))


def test_inference_tensors() -> None:
    """A model made under inference mode is put back like any other."""
    with torch.inference_mode():
        model = net()

    def body() -> None:
        with torch.inference_mode():
            model.train()(X)
            model[1].running_mean.fill_(9)

    assert_untouched(model, body)


class Object:
    """Something of the user's that hangs on a module."""


def test_object_without_attributes() -> None:
    """An object that had no attributes has none afterwards."""
    model = net()
    model.state = Object()

    def body() -> None:
        model.state.calls = 1

    assert_untouched(model, body)


@dataclass(slots=True)
class Slotted:
    calls: int = 0


def test_object_with_slots() -> None:
    """A counter in a dataclass with slots is put back."""
    model = net()
    model.state = Slotted()

    def body() -> None:
        model.state.calls += 1

    assert_untouched(model, body)


def test_numpy_generator() -> None:
    """A numpy generator that a module draws from gives the same numbers again."""
    model = net()
    model.rng = np.random.default_rng(0)
    assert_untouched(model, model.rng.random)


def test_containers_of_all_kinds() -> None:
    """Order, length and identity of what lies in containers come back, however deep."""
    model = net()
    model.cache = OrderedDict(a=[torch.ones(2)], b={"c": deque([1, 2], maxlen=2)})
    model.chosen = {1, 2}
    model.state = Object()
    model.state.history = ([0.0],)

    def body() -> None:
        model.cache.move_to_end("a")
        model.cache["b"]["c"].append(3)
        model.cache["a"][0].fill_(5)
        model.chosen.discard(1)
        model.state.history[0].append(float("nan"))
        model.state.extra = 1

    assert_untouched(model, body)


def test_scan_leaves_storages_resizable() -> None:
    """A model that was scanned can still be sharded, which empties its storages."""
    model = net()
    scan(model)
    for tensor in model.state_dict().values():
        assert tensor.untyped_storage().resizable()
