"""After a probe everything is as it was: each nasty case by itself."""

import functools
import random
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from normcheck.live.untouched import untouched

Facts = dict[str, Any]


def snapshot(*roots: object) -> tuple[Facts, list[object]]:
    """All of the objects' state by path, and the objects, held so that no id is used twice."""
    facts: Facts = {f"switch {name}": value for name, value in switches().items()}
    held: list[object] = []
    seen: set[int] = set()
    for number, root in enumerate(roots):
        _look(str(number), root, facts, held, seen)
    return facts, held


def switches() -> Facts:
    """Torch's global state, and the streams of random numbers."""
    cudnn, state = torch.backends.cudnn, np.random.get_state()  # noqa: NPY002
    hooks = {k: v for k, v in vars(nn.modules.module).items() if k.startswith("_global_")}
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "python": random.getstate(),
        "numpy": (state[0], state[1].tobytes(), *state[2:]),
        "grad": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
        "autocast": [(torch.is_autocast_enabled(d), torch.get_autocast_dtype(d))
                     for d in ("cpu", "cuda")],
        "autocast cache": torch.is_autocast_cache_enabled(),
        "fast path": torch.backends.mha.get_fastpath_enabled(),
        "matmul": torch.get_float32_matmul_precision(),
        "deterministic": (torch.are_deterministic_algorithms_enabled(),
                          torch.is_deterministic_algorithms_warn_only_enabled()),
        "cudnn": (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32),
        "hooks": {k: list(v.items()) for k, v in hooks.items() if isinstance(v, dict)},
    }  # fmt: skip


def _look(path: str, value: object, facts: Facts, held: list[object], seen: set[int]) -> None:
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        facts[path] = repr(value)
        return
    held.append(value)
    facts[path] = (id(value), type(value))
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        facts[f"{path} tensor"] = _tensor(value)
        if value.is_leaf:
            _look(f"{path} grad", value.grad, facts, held, seen)
    elif isinstance(value, np.ndarray):
        facts[f"{path} array"] = (value.dtype, value.shape, value.tobytes())
    elif isinstance(value, torch.Generator):
        facts[f"{path} stream"] = value.get_state().numpy().tobytes()
    elif isinstance(value, random.Random):
        facts[f"{path} stream"] = value.getstate()
    elif isinstance(value, np.random.Generator):
        facts[f"{path} stream"] = str(value.bit_generator.state)
    elif not isinstance(value, type):
        parts = list(_parts(value))
        facts[f"{path} parts"] = [name for name, _ in parts]
        for name, part in parts:
            _look(f"{path}.{name}", part, facts, held, seen)
        if isinstance(value, nn.Module):
            # torch makes a class for each parametrized module, with properties on it.
            facts[f"{path} class"] = [n for n, v in vars(type(value)).items() if _is_property(v)]


def _is_property(value: object) -> bool:
    return isinstance(value, property)


def _parts(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        yield from ((repr(key), item) for key, item in value.items())
    elif isinstance(value, list | tuple | deque):
        yield from ((f"[{i}]", item) for i, item in enumerate(value))
    elif isinstance(value, set | frozenset):
        yield from ((f"{{{id(item)}}}", item) for item in sorted(value, key=id))
    elif isinstance(value, functools.partial):
        yield from (("func", value.func), ("args", value.args), ("keywords", value.keywords))
    yield from getattr(value, "__dict__", {}).items()
    for cell in getattr(value, "__closure__", None) or ():
        yield "closure", cell.cell_contents
    for name in getattr(type(value), "__slots__", ()):
        if hasattr(value, name):
            yield name, getattr(value, name)


def _tensor(tensor: Tensor) -> Any:
    if isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer):
        return tensor.requires_grad
    if tensor.layout != torch.strided:
        return tensor.shape, tensor.coalesce().values().numpy().tobytes()
    place = (tensor.dtype, tensor.shape, tensor.stride(), tensor.storage_offset())
    flags = (tensor.requires_grad, tensor.is_leaf)
    storage = tensor.detach().untyped_storage()
    if tensor.is_meta:
        return place, flags
    raw = torch.empty(0, dtype=torch.uint8).set_(storage)
    # A copy: a storage that numpy has seen cannot be resized any more.
    return place, flags, storage._cdata, raw.clone().numpy().tobytes()


def assert_untouched(model: nn.Module, body: Callable[[], object]) -> None:
    """What the body does is undone; an exception of it arrives."""
    before, held = snapshot(model)
    with untouched(model):
        body()
    after, _ = snapshot(model)
    assert after == before
    assert held


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4))


@pytest.fixture(autouse=True)
def _own_switches() -> Iterator[None]:
    """No test inherits what another left on."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(), torch.enable_grad():
        yield
    torch.set_default_dtype(torch.float32)
    torch.use_deterministic_algorithms(deterministic)


X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


def test_snapshot_sees_what_is_not_put_back() -> None:
    """The comparison on which these tests rest tells a changed buffer, mode and stream."""
    model = net()
    before, _ = snapshot(model)
    model.eval()
    model[1].running_mean[0] = -0.0
    torch.rand(1)
    after, _ = snapshot(model)
    changed = {name for name in before if before[name] != after[name]}
    assert {"switch torch", "0._modules.'1'.training"} <= changed
    assert any("running_mean" in name for name in changed)


def test_exception_arrives_and_everything_is_put_back() -> None:
    """A body that raises half-way leaves no trace, and its exception is not replaced."""
    model = net().eval()
    before, _ = snapshot(model)
    with pytest.raises(KeyboardInterrupt, match="half-way"), untouched(model):
        model.train()(X)
        torch.set_grad_enabled(False)
        raise KeyboardInterrupt("half-way")
    assert snapshot(model)[0] == before


def test_nested_probes() -> None:
    """A probe inside a probe puts back what the outer one had changed, then the outer the rest."""
    model = net()
    before, _ = snapshot(model)
    with untouched(model):
        model.eval()
        model[1].running_mean.fill_(7)
        middle, _ = snapshot(model)
        with untouched(model):
            model.train()(X).sum().backward()
            del model[2]
        assert snapshot(model)[0] == middle
    assert snapshot(model)[0] == before


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
    assert_untouched(model, lambda: model.rng.random())


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


def test_several_models_at_once() -> None:
    """Models that share a part are put back together."""
    first = net()
    second = nn.Sequential(first[1], nn.Linear(4, 2))
    before, _ = snapshot(first, second)
    with untouched(first, second):
        second.eval()
        first.train()(X).sum().backward()
        second.double()
    assert snapshot(first, second)[0] == before


@pytest.mark.parametrize(
    "flip",
    [
        lambda: torch.set_grad_enabled(False),
        lambda: torch.set_default_dtype(torch.float64),
        lambda: torch.set_float32_matmul_precision("medium"),
        lambda: torch.use_deterministic_algorithms(True, warn_only=True),
        lambda: torch.backends.mha.set_fastpath_enabled(False),
        lambda: setattr(torch.backends.cudnn, "benchmark", True),
        lambda: torch.set_autocast_enabled("cpu", True),
        lambda: torch.set_autocast_dtype("cuda", torch.bfloat16),
        lambda: torch.autocast("cpu", dtype=torch.float16).__enter__(),
        lambda: nn.modules.module.register_module_forward_hook(print),
        lambda: (random.seed(1), np.random.seed(1), torch.manual_seed(1)),  # noqa: NPY002
    ],
)
def test_switches_of_torch(flip: Callable[[], object]) -> None:
    """What a forward flips for the whole process is flipped back."""
    assert_untouched(net(), flip)
