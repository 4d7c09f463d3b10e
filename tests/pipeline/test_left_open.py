"""Averages whose means fit while their statistics are of another size: nothing vouches for them."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import relu, silu

from normcheck import scan
from normcheck.pipeline.left_open import FLOOR, possible_rest
from normcheck.report.certificate import certificate_for
from tests.rules.layers import batch_norm, values

pytestmark = pytest.mark.slow

State = dict[str, torch.Tensor]
Activation = Callable[[torch.Tensor], torch.Tensor]
DEPTH = 4
STEPS = 200
FORGETFUL, LASTING = 0.9, 0.99
"""Decays: after 200 steps they leave 10^-9 and 13 % of the initial values."""


class Plain(nn.Module):
    """Convolutions whose activation no module shows."""

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        for n in range(1, DEPTH + 1):
            conv = nn.Conv2d(1 if n == 1 else 24, 24, 3, padding=1, bias=False)
            self.add_module(f"conv{n}", conv)
            self.add_module(f"bn{n}", nn.BatchNorm2d(24))
        self.head = nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for n in range(1, DEPTH + 1):
            x = self.get_submodule(f"bn{n}")(self.get_submodule(f"conv{n}")(x))
            x = self.activation(x)
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


@cache
def trained(activation: Activation) -> dict[str, State]:
    """The state of a trained network, and of averages of two decays."""
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    images = torch.tensor(digits.images[:, None] / 16 - 0.3, dtype=torch.float32) / 0.38
    labels = torch.tensor(digits.target)
    torch.manual_seed(5)
    model = Plain(activation)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    averages = {
        decay: {k: v.clone() for k, v in model.state_dict().items()}
        for decay in (FORGETFUL, LASTING)
    }
    own = model.state_dict()
    for _ in range(STEPS):
        rows = torch.randint(len(images), (32,))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images[rows]), labels[rows])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        for decay, average in averages.items():
            for name, value in own.items():
                if value.is_floating_point():
                    average[name].lerp_(value, 1 - decay)
                else:
                    average[name].copy_(value)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    return {"raw": state, "forgetful": averages[FORGETFUL], "lasting": averages[LASTING]}


def with_statistics_of(state: State, other: State) -> State:
    """Averaged weights with the buffers of the raw model, as ``use_buffers=False`` leaves them."""
    return {k: other[k] if "running" in k or "num" in k else v for k, v in state.items()}


def earned(content: object, folder: Path) -> dict[str, bool]:
    """Whether each model of a file gets a check mark, by its place; none may be accused."""
    torch.save(content, folder / "model.pt")
    report = scan([folder / "model.pt"])
    assert not [f for f in report.findings if f.severity.rank]
    return {model.where: certificate_for(model).earned for model in report.models}


@pytest.mark.parametrize("activation", [relu, silu])
def test_an_average_that_has_not_forgotten_its_beginning(
    activation: Activation, tmp_path: Path
) -> None:
    """Its means fit under an activation that a file does not name; its variances have a floor."""
    states = trained(activation)
    assert earned(states["raw"], tmp_path) == {"": True}
    assert earned(states["forgetful"], tmp_path) == {"": True}
    assert earned(states["lasting"], tmp_path) == {"": False}
    (model,) = scan([tmp_path / "model.pt"]).models
    assert any("as in an average (EMA) of too few updates" in layer.why for layer in model.layers)


@pytest.mark.parametrize("activation", [relu, silu])
def test_beside_the_raw_model(activation: Activation, tmp_path: Path) -> None:
    """Which keeps its own check mark."""
    states = trained(activation)
    both = {"model": states["raw"], "ema": states["forgetful"]}
    assert earned(both, tmp_path) == {"model": True, "ema": True}
    both = {"model": states["raw"], "ema": states["lasting"]}
    assert earned(both, tmp_path) == {"model": True, "ema": False}


def test_statistics_of_the_raw_model_under_averaged_weights(tmp_path: Path) -> None:
    """The same bits, which other weights explain better; where the weights hardly differ, fine."""
    states = trained(silu)
    lag = with_statistics_of(states["lasting"], states["raw"])
    torch.save({"model": states["raw"], "ema": lag}, tmp_path / "model.pt")
    raw, average = scan([tmp_path / "model.pt"]).models
    assert certificate_for(raw).earned
    assert not certificate_for(average).earned
    near = {k: v.lerp(lag[k], 0.02) if v.is_floating_point() else v
            for k, v in states["raw"].items()}  # fmt: skip
    assert earned({"model": states["raw"], "ema": near}, tmp_path) == {"model": True, "ema": True}


def test_averaged_weights_without_update_bn(tmp_path: Path) -> None:
    """``n_averaged`` says what they are; means that fit closely are those of ``update_bn``."""
    states = trained(relu)

    def averaged(state: State) -> State:
        wrapped = {f"module.{k}": v for k, v in state.items()}
        return {"n_averaged": torch.tensor(STEPS), **wrapped}

    own = averaged(states["forgetful"])
    assert earned(own, tmp_path) == {"": True}
    raw = averaged(with_statistics_of(states["lasting"], states["raw"]))
    assert earned(raw, tmp_path) == {"": False}


def test_how_much_may_be_left() -> None:
    """No more than the smallest variance of all layers; and variances above 1 hold none."""
    small = batch_norm(running_var=values([0.01, 0.5, 0.7, 2.0]))
    middle = batch_norm(running_var=values([0.3, 0.5, 0.7, 2.0]))
    large = batch_norm(running_var=values([3.0, 5.0, 7.0, 20.0]))
    assert possible_rest([middle, large], None) == pytest.approx(0.3)
    assert possible_rest([middle, small], None) is None
    assert possible_rest([large], None) is None
    assert possible_rest([batch_norm(running_var=values([FLOOR - 0.01] * 4))], None) is None
    assert possible_rest([], None) is None
