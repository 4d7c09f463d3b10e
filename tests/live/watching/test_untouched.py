"""After a probe everything is as it was: exceptions, nesting, torch's switches."""

import functools
import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from normcheck.live.watching.untouched import untouched

pytestmark = pytest.mark.kernels

Facts = dict[str, Any]
X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


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
    cudnn, state = torch.backends.cudnn, np.random.get_state()
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


@contextmanager
def own_switches() -> Iterator[None]:
    """No test inherits what another one left on, and the rest of the suite nothing from here."""
    hooks = {k: v for k, v in vars(nn.modules.module).items() if isinstance(v, dict)}
    kept = {name: dict(value) for name, value in hooks.items() if name.startswith("_global_")}
    with torch.random.fork_rng(), torch.enable_grad():
        yield
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.set_autocast_enabled("cpu", False)
    torch.use_deterministic_algorithms(False)
    for name, value in kept.items():
        hooks[name].clear()
        hooks[name].update(value)


@pytest.fixture(autouse=True)
def _switches() -> Iterator[None]:
    with own_switches():
        yield


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

    def body() -> None:
        model.train()(X)
        random.random()  # noqa: S311
        raise KeyboardInterrupt("half-way")

    with pytest.raises(KeyboardInterrupt, match="half-way"), untouched(model):
        body()
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
        pytest.param(
            lambda: torch.set_grad_enabled(False),
        ),
        lambda: torch.set_default_dtype(torch.float64),
        lambda: torch.set_float32_matmul_precision("medium"),
        lambda: torch.use_deterministic_algorithms(True, warn_only=True),
        lambda: torch.backends.mha.set_fastpath_enabled(False),
        lambda: setattr(torch.backends.cudnn, "benchmark", True),
        lambda: torch.set_autocast_enabled("cpu", True),
        lambda: torch.set_autocast_dtype("cuda", torch.bfloat16),
        lambda: torch.autocast("cpu", dtype=torch.float16).__enter__(),
        lambda: nn.modules.module.register_module_forward_hook(print),
        lambda: (random.seed(1), np.random.seed(1), torch.manual_seed(1)),
    ],
)
def test_switches_of_torch(flip: Callable[[], object]) -> None:
    """What a forward flips for the whole process is flipped back."""
    assert_untouched(net(), flip)


@pytest.mark.parametrize(
    ("flip", "read"),
    [
        (lambda: torch.set_default_device("meta"), lambda: torch.empty(0).device),
        (lambda: torch.autograd.set_detect_anomaly(True), torch.is_anomaly_enabled),
        (
            lambda: torch.backends.cuda.enable_math_sdp(False),
            torch.backends.cuda.math_sdp_enabled,
        ),
    ],
)
def test_further_switches(flip: Callable[[], object], read: Callable[[], object]) -> None:
    """The device of new tensors, anomaly mode and the kernels of attention come back."""
    before = read()
    try:
        with untouched(net()):
            flip()
        assert read() == before
    finally:
        torch.set_default_device(None)
        torch.autograd.set_detect_anomaly(False)
        torch.backends.cuda.enable_math_sdp(True)
