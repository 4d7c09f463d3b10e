"""What is seen of a forward: every norm and every draw, under its module, with its flag."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from normcheck.live.batches import Batch
from normcheck.live.probes.norm_axes import wrong_axes
from normcheck.live.watching.forward import Forward, Interrupted
from normcheck.live.watching.observe import watching
from normcheck.live.watching.reachable_modules import reachable
from normcheck.live.watching.seen import Seen

pytestmark = pytest.mark.kernels

torch.set_num_threads(1)
IMAGE, ROWS = torch.randn(4, 6, 5, 5), torch.randn(4, 6)


def seen(model: nn.Module, x: Tensor, times: int = 1) -> Seen:
    with watching(model, len(x)) as watch, torch.no_grad():
        for _ in range(times):
            model(x)
    return watch.seen


class Calls(nn.Module):
    """Calls a function of its own."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


NORMS: dict[str, tuple[nn.Module, Tensor, str, bool | None, int]] = {
    "batch norm": (nn.BatchNorm2d(6), IMAGE, "batch_norm", None, 100),
    "batch norm of rows": (nn.BatchNorm1d(6), ROWS, "batch_norm", None, 4),
    "sync batch norm": (nn.SyncBatchNorm(6).eval(), IMAGE, "batch_norm", False, 100),
    "without statistics": (
        nn.BatchNorm2d(6, track_running_stats=False).eval(), IMAGE, "batch_norm", True, 100,
    ),
    "functional": (
        Calls(lambda x: functional.batch_norm(x, None, None, training=True)),
        IMAGE, "batch_norm", True, 100,
    ),
    "functional, stored": (
        Calls(lambda x: functional.batch_norm(x, torch.zeros(6), torch.ones(6))),
        IMAGE, "batch_norm", False, 100,
    ),
    "instance norm": (nn.InstanceNorm2d(6), IMAGE, "instance_norm", True, 25),
    "instance norm, stored": (
        nn.InstanceNorm2d(6, track_running_stats=True).eval(), IMAGE, "instance_norm", False, 25,
    ),
    "layer norm": (nn.LayerNorm([5, 5]), IMAGE, "layer_norm", None, 25),
    "group norm": (nn.GroupNorm(2, 6), IMAGE, "group_norm", None, 75),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMS)
def test_norms(name: str) -> None:
    """Each kind is seen once a forward, with the flag that its operator was really given."""
    module, x, op, flag, values = NORMS[name]
    model = nn.Sequential(nn.Identity(), module)
    modes = [flag] if flag is not None or op != "batch_norm" else [True, False]
    for mode in modes:
        if op == "batch_norm" and flag is None:
            model.train(mode)
        (entry,) = seen(model, x, times=3).norms.values()
        assert (entry.path, entry.op, entry.training) == ("1", op, mode)
        assert entry.calls == 3
        assert entry.values == values
        assert entry.per_sample is (op != "batch_norm")


def test_rms_norm() -> None:
    """An RMSNorm is seen as a norm over its last dimension."""
    (entry,) = seen(nn.Sequential(nn.RMSNorm(6)), ROWS).norms.values()
    assert (entry.path, entry.values) == ("0", 6)


def test_updates() -> None:
    """Only a norm in train mode that keeps statistics is said to update them."""
    norm = nn.BatchNorm1d(6)
    assert [e.updates for e in seen(norm.train(), ROWS).norms.values()] == [True]
    assert [e.updates for e in seen(norm.eval(), ROWS).norms.values()] == [False]
    free = nn.BatchNorm1d(6, track_running_stats=False)
    assert [e.updates for e in seen(free.train(), ROWS).norms.values()] == [False]


DROPOUTS: dict[str, tuple[nn.Module, str]] = {
    "dropout": (nn.Dropout(0.5), "bernoulli_|native_dropout"),
    "dropout2d": (nn.Dropout2d(0.5), "bernoulli_"),
    "alpha": (nn.AlphaDropout(0.5), "bernoulli_"),
    "feature alpha": (nn.FeatureAlphaDropout(0.5), "bernoulli_"),
    "functional": (Calls(lambda x: functional.dropout(x, 0.5, training=True)), "bernoulli_"),
    "noise": (Calls(lambda x: x + torch.randn_like(x)), "randn_like"),
    "uniform": (Calls(lambda x: x + torch.rand(1)), "rand"),
    "sampling": (Calls(lambda x: torch.bernoulli(x.sigmoid())), "bernoulli"),
    "choice": (Calls(lambda x: x[torch.randperm(len(x))]), "randperm"),
    "attention": (
        Calls(lambda x: functional.scaled_dot_product_attention(x, x, x, dropout_p=0.5)),
        "bernoulli_|_scaled_dot_product",
    ),
}


@pytest.mark.parametrize("name", DROPOUTS)
def test_draws(name: str) -> None:
    """Each way to draw is seen under its module in train mode, and modules draw not in eval."""
    module, ops = DROPOUTS[name]
    found = seen(nn.Sequential(module), IMAGE)
    assert {entry.path for entry in found.random.values()} == {"0"}
    assert any(entry.op.startswith(tuple(ops.split("|"))) for entry in found.random.values())
    if not isinstance(module, Calls):
        assert seen(nn.Sequential(module).eval(), IMAGE).random == {}


def test_leaky_units_draw_in_train_mode_only() -> None:
    """A randomised leaky ReLU draws in train mode, and not in eval mode."""
    model = nn.Sequential(nn.RReLU())
    assert seen(model, IMAGE).random
    assert seen(model.eval(), IMAGE).random == {}


def test_attention_without_dropout_draws_nothing() -> None:
    """A fused attention that drops nothing is no draw."""
    model = Calls(lambda x: functional.scaled_dot_product_attention(x, x, x))
    assert seen(model, IMAGE).random == {}


@pytest.mark.parametrize("name", ["dropout", "dropout2d", "functional"])
def test_without_dropout(name: str) -> None:
    """A dropout can be made to give its input, and nothing is drawn."""
    model = nn.Sequential(DROPOUTS[name][0])
    with watching(model, 4) as watch, torch.no_grad():
        watch.without_dropout = True
        assert torch.allclose(model(IMAGE), IMAGE)
    assert watch.seen.random == {}


def standardised(x: Tensor) -> Tensor:
    weight = functional.batch_norm(torch.randn(1, 6, 9), None, None, training=True)
    return x + weight.sum()


def test_per_sample_places_are_learned() -> None:
    """A norm over a weight has one row at any batch size; known from larger, it is told at one."""
    model = nn.Sequential(Calls(standardised), nn.BatchNorm2d(6).eval())
    with watching(model, 4) as watch:
        model(IMAGE)
    assert [(e.path, e.op) for e in watch.seen.norms.values()] == [
        ("0", "instance_norm"), ("1", "batch_norm"),
    ]  # fmt: skip
    for known, op in ((set(), "batch_norm"), (watch.per_sample, "instance_norm")):
        with watching(model, 1) as single:
            single.per_sample |= known
            model(IMAGE[:1])
        assert ("0", op) in [(e.path, e.op) for e in single.seen.norms.values()]


def test_paths_of_nested_and_repeated_calls() -> None:
    """A shared module has one path and several calls; after a child its parent is the path."""

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.BatchNorm2d(6))

        def forward(self, x: Tensor) -> Tensor:
            x = self.inner(self.inner(x))
            return functional.layer_norm(x, [5])

    found = seen(nn.Sequential(Outer()).eval(), IMAGE)
    assert {(e.path, e.op): e.calls for e in found.norms.values()} == {
        ("0.inner.0", "batch_norm"): 2, ("0", "layer_norm"): 1,
    }  # fmt: skip
    assert found.called == {"": 1, "0": 1, "0.inner": 2, "0.inner.0": 2}


def test_turns_tell_norms_of_one_module_apart() -> None:
    """Norms that one module runs are numbered, anew in each forward."""
    places = []

    def twice(x: Tensor) -> Tensor:
        return functional.batch_norm(functional.batch_norm(x, None, None, training=True),
                                     torch.zeros(6), torch.ones(6))  # fmt: skip

    model = nn.Sequential(Calls(twice))
    with watching(model, 4) as watch:
        watch.intervene = lambda call: places.append((call.place.path, call.place.turn))
        model(IMAGE)
        model(IMAGE)
    assert places == [("0", 0), ("0", 1)] * 2


def test_strays() -> None:
    """A module that is made in forward is named after its class, under who called it."""
    model = nn.Sequential(Calls(lambda x: nn.BatchNorm2d(6)(x)))  # noqa: PLW0108
    found = seen(model, IMAGE)
    ((path, module),) = found.strays.values()
    assert path == "0.BatchNorm2d"
    assert isinstance(module, nn.BatchNorm2d)
    assert [e.path for e in found.norms.values()] == ["0.BatchNorm2d"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_modules() -> None:
    """What runs inside of a scripted module is seen, with its flags."""
    inner = nn.Sequential(nn.BatchNorm2d(6), nn.Dropout(0.5))
    found = seen(nn.Sequential(torch.jit.script(inner)), IMAGE)
    assert [(e.op, e.training) for e in found.norms.values()] == [("batch_norm", True)]
    assert found.random


def test_hooks_are_removed() -> None:
    """After an exception no hook is left, and the path of the next forward is right."""
    registry = nn.modules.module
    before = [len(registry._global_forward_hooks), len(registry._global_forward_pre_hooks)]

    def fails(x: Tensor) -> Tensor:
        raise ValueError("in the middle")

    model = nn.Sequential(nn.BatchNorm2d(6), nn.Sequential(Calls(fails)))
    with pytest.raises(Interrupted, match="in the middle"), watching(model, 4):
        Forward(model, torch.device("cpu"))(Batch((IMAGE,)))
    assert [len(registry._global_forward_hooks), len(registry._global_forward_pre_hooks)] == before
    with watching(model, 4) as watch:
        for _ in range(2):
            with pytest.raises(ValueError, match="middle"):
                model(IMAGE)
            assert watch.path == ""
    assert {e.path for e in watch.seen.norms.values()} == {"0"}


def axes(model: nn.Module, x: Tensor) -> list[tuple[str, int, tuple[int, ...], str]]:
    reached = reachable(model)
    paths = frozenset(e.path for e in reached if "Norm" in type(e.module).__name__)
    forward = Forward(model.eval(), torch.device("cpu"))
    found = wrong_axes(forward, reached, Batch((x,)), paths)
    return [(w.path, w.features_at, w.normalised_at, w.producer) for w in found]


class Turned(nn.Module):
    def __init__(self, *turn: int) -> None:
        super().__init__()
        self.turn = turn

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(*self.turn)


SEQUENCE = torch.randn(4, 9, 6)


@pytest.mark.parametrize(
    ("model", "x", "expected"),
    [
        (nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(9)), SEQUENCE, [("1", 2, (1,), "linear")]),
        (nn.Sequential(nn.Linear(6, 8), Turned(0, 2, 1), nn.BatchNorm1d(8)), SEQUENCE, []),
        (nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.LayerNorm(8)), SEQUENCE, []),
        (
            nn.Sequential(nn.Conv2d(6, 8, 1), nn.GELU(), nn.LayerNorm(5)),
            IMAGE,
            [("2", 1, (3,), "convolution")],
        ),
        (nn.Sequential(nn.Conv2d(6, 8, 1), Turned(0, 2, 3, 1), nn.LayerNorm(8)), IMAGE, []),
        (nn.Sequential(nn.Conv2d(6, 8, 1), nn.LayerNorm([8, 5, 5])), IMAGE, []),
        (nn.Sequential(nn.Conv2d(6, 8, 1), nn.BatchNorm2d(8), nn.GroupNorm(2, 8)), IMAGE, []),
        (nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8)), ROWS, []),
        (nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9)), SEQUENCE, [("1", 2, (1,), "linear")]),
    ],
)
def test_wrong_axes(model: nn.Module, x: Tensor, expected: list[Any]) -> None:
    """Channels are followed through activations and transposes to the norm, however it is laid."""
    assert axes(model, x) == expected


def test_axes_of_a_forward_that_fails() -> None:
    """A forward that fails accuses nobody."""
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(9), nn.Linear(1, 1))
    assert axes(model, SEQUENCE) == []
