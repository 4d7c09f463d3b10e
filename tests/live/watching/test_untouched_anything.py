"""After a probe everything is as it was, whatever the model is made of and the probe does."""

import functools
import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from normcheck.live.watching.untouched import untouched
from tests.live.watching.test_untouched import own_switches, snapshot

pytestmark = [pytest.mark.kernels, pytest.mark.filterwarnings("ignore")]
"""Old weight norm, backward hooks and meta tensors warn; that is torch's business."""


class Anything(nn.Module):
    """A module that calls all that hangs on it, registered or not."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4)])
        self.hidden: list[Any] = []
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = x
        for layer in (*self.layers, *self.hidden):
            x = layer(x)
        return x


class Thing:
    """An object of the user's."""

    def __init__(self) -> None:
        self.values, self.count = [torch.zeros(2)], 0


Part = Callable[[Anything], object]
PARTS: dict[str, Part] = {}
DEEDS: dict[str, Part] = {}


def _hidden_in_closure(model: Anything) -> None:
    norm = nn.BatchNorm1d(4)
    model.hidden.append(lambda x: norm(x) + 0)


def _tied(model: Anything) -> None:
    model.layers.append(model.layers[0])
    model.layers.append(nn.Linear(4, 4))
    model.layers[-1].weight = model.layers[0].weight


def _buffers(model: Anything) -> None:
    for kind in (torch.half, torch.bfloat16, torch.float64, torch.int32, torch.bool):
        name = f"of {kind}".replace(".", " ")
        model.register_buffer(name, torch.ones(3, dtype=kind), persistent=kind != torch.half)
    model.register_buffer("nothing", None)
    model.register_parameter("none", None)
    model.register_buffer("odd", torch.tensor([-0.0, float("nan"), float("inf")]))


def _views(model: Anything) -> None:
    flat = torch.arange(8.0)
    model.register_buffer("even", flat[::2])
    model.register_buffer("first", flat.view(2, 4)[0])


def _hooks(model: Anything) -> None:
    layer = model.layers[0]
    layer.register_forward_hook(lambda _m, _i, output: output * 1.5)
    layer.register_forward_pre_hook(lambda _m, _i: None, prepend=True)
    layer.register_full_backward_hook(lambda _m, _i, _o: None)
    layer.register_full_backward_pre_hook(lambda _m, _o: None)
    if hasattr(layer, "register_state_dict_post_hook"):  # since torch 2.5
        layer.register_state_dict_post_hook(lambda *_: None)
    layer.register_load_state_dict_post_hook(lambda *_: None)


def _gradients(model: Anything) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.25)


def _mixed_modes(model: Anything) -> None:
    for number, module in enumerate(model.modules()):
        module.training = number % 2 == 0


def _attributes(model: Anything) -> None:
    model.grid, model.table = torch.linspace(0, 1, 4), np.array([1.0, np.nan, -0.0])
    model.generator, model.dice = torch.Generator().manual_seed(3), random.Random(3)  # noqa: S311
    model.cache = {"a": [torch.ones(1)], "b": deque([1]), 3: {1, 2}}
    model.thing = Thing()


PARTS |= {
    "norm": lambda m: m.layers.append(nn.BatchNorm1d(4)),
    "dropout": lambda m: m.layers.append(nn.Sequential(nn.Dropout(0.5), nn.LayerNorm(4))),
    "hidden": lambda m: m.hidden.extend([nn.BatchNorm1d(4), functools.partial(nn.Dropout(0.2))]),
    "dictionary": lambda m: setattr(m, "others", {"a": (nn.BatchNorm1d(4),)}),
    "closure": _hidden_in_closure,
    "tied": _tied,
    "buffers": _buffers,
    "views": _views,
    "hooks": _hooks,
    "frozen": lambda m: m.layers[0].requires_grad_(False),
    "gradients": _gradients,
    "modes": _mixed_modes,
    "attributes": _attributes,
    "weight norm": lambda m: m.layers.append(parametrizations.weight_norm(nn.Linear(4, 4))),
    "spectral norm": lambda m: m.layers.append(parametrizations.spectral_norm(nn.Linear(4, 4))),
    "old spectral norm": lambda m: m.layers.append(spectral_norm(nn.Linear(4, 4))),
    "old weight norm": lambda m: m.layers.append(weight_norm(nn.Linear(4, 4))),
}


def _forward(model: Anything) -> Tensor:
    kind = next((p.dtype for p in model.parameters()), torch.float32)
    return model(torch.randn(6, 4, dtype=kind))


def _load(model: Anything, *, assign: bool) -> None:
    state = {k: torch.randn(v.shape).to(v.dtype) for k, v in model.state_dict().items()}
    model.load_state_dict(state, assign=assign)


def _step(model: Anything) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer.zero_grad(set_to_none=False)
    _forward(model).square().mean().backward()
    optimizer.step()


def _swap(model: Anything) -> None:
    for parameter in model.parameters():
        parameter.data = torch.zeros(parameter.shape[::-1])


def _scribble(model: Anything) -> None:
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.detach().zero_()
    for value in vars(model).values():
        if isinstance(value, Tensor):
            value.detach().fill_(1)
        elif isinstance(value, np.ndarray):
            value[...] = 2
        elif isinstance(value, torch.Generator):
            torch.rand(1, generator=value)
        elif isinstance(value, random.Random):
            value.random()
        elif isinstance(value, Thing):
            value.values[0].fill_(9)
            value.values, value.count, value.extra = [], 5, 1
        elif isinstance(value, dict) and "b" in value:
            value["b"].append(value.pop("a"))
            value[3].clear()


def _remove_hooks(model: Anything) -> None:
    for module in model.modules():
        for name, value in vars(module).items():
            if name.endswith("_hooks"):
                value.clear()


def _momentum(model: Anything) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.momentum, module.track_running_stats = None, False
            module.running_mean = None


def _delete(model: Anything) -> None:
    del model.layers[0].bias, model.calls, model.layers[-1]


def _grow(model: Anything) -> None:
    for tensor in model.buffers():
        storage = tensor.untyped_storage()
        storage.resize_(storage.nbytes() + 64)


def _raise(_model: Anything) -> None:
    raise ValueError("on purpose")


DEEDS |= {
    "train": lambda m: m.train(),
    "eval": lambda m: m.eval(),
    "forward": _forward,
    "backward": lambda m: _forward(m).sum().backward(),
    "step": _step,
    "load": functools.partial(_load, assign=False),
    "assign": functools.partial(_load, assign=True),
    "swap": _swap,
    "double": lambda m: m.double(),
    "bfloat16": lambda m: m.to(torch.bfloat16),
    "meta": lambda m: m.to("meta"),
    "freeze": lambda m: m.requires_grad_(False),
    "thaw": lambda m: m.requires_grad_(True),
    "no gradients": lambda m: m.zero_grad(),
    "scribble": _scribble,
    "grow": _grow,
    "momentum": _momentum,
    "hook": lambda m: m.layers[-1].register_forward_hook(lambda _m, _i, o: o + 1),
    "global hook": lambda _m: nn.modules.module.register_module_forward_hook(lambda *_: None),
    "remove hooks": _remove_hooks,
    "attribute": lambda m: setattr(m, "fresh", torch.ones(3)),
    "module": lambda m: m.add_module("more", nn.BatchNorm1d(4)),
    "parameter": lambda m: setattr(m.layers[0], "weight", nn.Parameter(torch.eye(4))),
    "delete": _delete,
    "unhide": lambda m: m.hidden.clear(),
    "parametrize": lambda m: parametrizations.weight_norm(m.layers[0]),
    "seed": lambda _m: (torch.manual_seed(1), random.seed(1), np.random.seed(1)),
    "draw": lambda _m: (torch.rand(3), random.random(), np.random.rand()),  # noqa: S311
    "autocast": lambda _m: torch.autocast("cpu", dtype=torch.bfloat16).__enter__(),
    "default dtype": lambda _m: torch.set_default_dtype(torch.float64),
    "class": lambda m: setattr(m, "__class__", nn.ModuleList),
    "raise": _raise,
}


def assert_put_back(parts: Iterable[str], deeds: Iterable[str]) -> None:
    """Deeds on a model made of these parts leave no trace, and what they raise arrives."""
    with own_switches():
        torch.manual_seed(0)
        model = Anything()
        for part in parts:
            PARTS[part](model)
        before, held = snapshot(model)
        raised: Exception | None = None
        try:
            with untouched(model):
                try:
                    for deed in deeds:
                        DEEDS[deed](model)
                except Exception as error:
                    raised = error
                    raise
        except Exception as error:
            if error is not raised:
                raise
        assert snapshot(model)[0] == before
        assert held


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(list(PARTS)), max_size=6, unique=True),
    st.lists(st.sampled_from(list(DEEDS)), min_size=1, max_size=6),
)
def test_everything_is_put_back(parts: list[str], deeds: list[str]) -> None:
    """After any deeds on any model all is bit for bit as before, also where a deed raised."""
    assert_put_back(parts, deeds)


@pytest.mark.parametrize("deed", DEEDS)
def test_each_deed_on_all_parts_at_once(deed: str) -> None:
    """Each deed by itself is undone on a model that has everything."""
    assert_put_back(PARTS, [deed])


@pytest.mark.parametrize("deed", DEEDS)
def test_every_deed_leaves_a_trace_by_itself(deed: str) -> None:
    """The deeds of the test above do change something that the comparison sees."""
    with own_switches():
        model = Anything()
        for part in (
            "norm",
            "frozen",
            "hooks",
            "attributes",
            "buffers",
            "hidden",
            "gradients",
            "modes",
        ):
            PARTS[part](model)
        before, held = snapshot(model)
        try:
            DEEDS[deed](model)
        except ValueError:
            return
        assert snapshot(model)[0] != before
        assert held
