"""Running statistics under the names of other libraries, and under names of nobody's."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from normcheck.findings import Severity
from normcheck.norms.kinds import Family
from normcheck.norms.layer import Confidence
from normcheck.report.report import Standing
from tests.norms.saved import layers_in, save
from tests.verdict import accused, report_on

C = 8
MEAN, VARIANCE = torch.linspace(-2, 3, C), torch.linspace(0.5, 4, C)
GAMMA, BETA = torch.linspace(0.5, 1.5, C), torch.linspace(-1, 1, C)
COUNT = torch.tensor(900)

NAMES: dict[str, tuple[str, str, str]] = {
    "Keras": ("moving_mean", "moving_variance", ""),
    "Keras with torch's leaves": ("moving_mean", "moving_var", ""),
    "sb3-contrib": ("ra_mean", "ra_var", "steps"),
    "Paddle": ("_mean", "_variance", ""),
    "Chainer": ("avg_mean", "avg_var", "N"),
    "Flax": ("mean", "var", ""),
    "another spelling": ("running_mean", "running_variance", "num_batches_tracked"),
    "two regimes": ("regular_running_mean", "regular_running_var", ""),
    "nobody's": ("ema_mu", "ema_sigma2", "count"),
}


def layer(names: tuple[str, str, str], mean: Tensor, spread: Tensor, **more: Tensor) -> nn.Module:
    """A module of no known class with γ, β and these statistics."""
    module = nn.Module()
    module.weight, module.bias = nn.Parameter(GAMMA), nn.Parameter(BETA)
    for name, tensor in zip(names, (mean, spread, COUNT), strict=True):
        if name:
            module.register_buffer(name, tensor)
    for name, tensor in more.items():
        module.register_buffer(name, tensor)
    return module


def around(norm: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, C, 3), norm, nn.Conv2d(C, C, 1)).eval()


@pytest.mark.parametrize("whole", [False, True], ids=["state dict", "module"])
@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_other_names(names: tuple[str, str, str], whole: bool, tmp_path: Path) -> None:
    """Found with their values, judged as statistics that can be stale, and not accused."""
    model = around(layer(names, MEAN, VARIANCE))
    path = save(model if whole else model.state_dict(), tmp_path / "model.pt")
    found = layers_in(path)["1"]
    assert found.kind.family is Family.BATCH
    assert found.running_mean is not None
    assert found.running_mean.numbers.tolist() == MEAN.double().tolist()
    assert found.running_var is not None
    assert found.running_var.numbers.tolist() == VARIANCE.double().tolist()
    assert found.weight is not None
    assert found.weight.numbers.tolist() == GAMMA.double().tolist()
    assert (found.batches is not None) == bool(names[2])
    assert not accused(path)


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_never_updated(names: tuple[str, str, str], tmp_path: Path) -> None:
    """Zeros and ones beside trained γ and β are accused under any name."""
    model = around(layer(names, torch.zeros(C), torch.ones(C)))
    assert accused(save(model.state_dict(), tmp_path / "model.pt")) & {"NC101", "NC102"}


@pytest.mark.parametrize("also", [False, True], ids=["alone", "beside the variance"])
def test_deviation(also: bool, tmp_path: Path) -> None:
    """A standard deviation is squared, and a variance beside it preferred."""
    more = {"running_variance": VARIANCE} if also else {}
    module = layer(("running_mean", "running_std", ""), MEAN, VARIANCE.sqrt(), **more)
    found = layers_in(save(around(module).state_dict(), tmp_path / "model.pt"))["1"]
    assert found.running_var is not None
    assert found.running_var.numbers == pytest.approx(VARIANCE.double().numpy(), rel=1e-6)


@pytest.mark.parametrize(
    ("names", "confidence"),
    [
        ("sb3-contrib", Confidence.HIGH),
        ("Flax", Confidence.MEDIUM),
        ("nobody's", Confidence.LOW),
    ],
)
def test_how_sure(names: str, confidence: Confidence, tmp_path: Path) -> None:
    """Names of one library are sure, names of nobody's look like statistics."""
    state = around(layer(NAMES[names], MEAN, VARIANCE)).state_dict()
    found = layers_in(save(state, tmp_path / "model.pt"))["1"]
    assert found.recognition.confidence is confidence
    assert ("look like" in found.recognition.reason) == (confidence is Confidence.LOW)


def test_momentum_of_the_library(tmp_path: Path) -> None:
    """Its own default decides what is left of the initial value: 0.01 after 100 batches is 37 %."""
    few = layer(("ra_mean", "ra_var", ""), MEAN, VARIANCE, steps=torch.tensor(100))
    path = save(around(few).state_dict(), tmp_path / "few.pt")
    assert layers_in(path)["1"].momentum == 0.01
    assert accused(path) == {"NC103"}


@pytest.mark.parametrize(
    "leaves",
    [
        {"mean": MEAN, "std": VARIANCE},
        {"weight_mu": GAMMA, "weight_sigma": VARIANCE, "bias_mu": BETA, "bias_sigma": VARIANCE},
        {"weight": torch.ones(4, C), "mean": MEAN[:4], "std": VARIANCE},
        {"mean_head": MEAN, "var_other": VARIANCE, "count": COUNT},
        {"mean": torch.ones(C, C), "var": torch.ones(C, C), "count": COUNT},
    ],
    ids=["preprocessing", "Bayesian layer", "two lengths", "no pair", "matrices"],
)
def test_not_statistics(leaves: dict[str, Tensor], tmp_path: Path) -> None:
    """Constants, distributions of weights and unrelated vectors are no norms."""
    state = {"0.weight": torch.ones(C, 3), **{f"1.{name}": t for name, t in leaves.items()}}
    assert not layers_in(save(state, tmp_path / "model.pt"))


def test_scaler_of_skrl(tmp_path: Path) -> None:
    """A pair beside a count of samples, at the file's root: an observation norm, whole."""
    state = {
        "running_mean": MEAN.double(),
        "running_variance": VARIANCE.double(),
        "current_count": torch.tensor(4096.0, dtype=torch.float64),
    }
    path = save({"state_preprocessor": state}, tmp_path / "agent.pt")
    (found,) = layers_in(path).values()
    assert found.kind.family is Family.OBSERVATION
    assert found.has_statistics
    assert not accused(path)


def test_keras_on_torch(tmp_path: Path) -> None:
    """Paths with slashes, as ``state_dict()`` of a Keras model has them."""
    layers = {"gamma": GAMMA, "beta": BETA, "moving_mean": MEAN, "moving_variance": VARIANCE}
    state = {f"_torch_params.sequential/batch_normalization/{k}": v for k, v in layers.items()}
    state["_torch_params.sequential/conv2d/kernel"] = torch.ones(3, 3, 3, C)
    (found,) = layers_in(save(state, tmp_path / "model.pt")).values()
    assert found.path == "_torch_params.sequential/batch_normalization"
    assert found.has_statistics
    assert (found.momentum, found.eps) == (0.01, 1e-3)


def test_statistics_of_two_dimensions(tmp_path: Path) -> None:
    """One row a type of node (HeteroBatchNorm): no fused convolution."""
    rows = torch.stack([MEAN, MEAN + 1, MEAN - 1])
    state = {
        "0.weight": torch.ones(C, C),
        "1.weight": torch.ones(3, C),
        "1.bias": torch.zeros(3, C),
        "1.running_mean": rows,
        "1.running_var": torch.ones(3, C) * 2,
    }
    assert layers_in(save(state, tmp_path / "model.pt"))["1"].kind.name == "BatchNorm by type"


def test_means_of_scalars_alone(tmp_path: Path) -> None:
    """An equivariant norm keeps fewer means than variances; nothing of it is missing."""
    state = {
        "0.weight": torch.ones(20, 20),
        "1.weight": torch.ones(12),
        "1.bias": torch.zeros(8),
        "1.running_mean": MEAN,
        "1.running_var": torch.linspace(0.5, 2, 12),
    }
    path = save(state, tmp_path / "model.pt")
    assert layers_in(path)["1"].kind.name == "equivariant BatchNorm"
    assert not accused(path)


def test_variance_without_a_mean(tmp_path: Path) -> None:
    """EvoNorm-B has no running mean: its absence is no fault; another norm's is."""
    own = {"weight": GAMMA, "bias": BETA, "running_var": VARIANCE}
    convolution = {"0.weight": torch.ones(C, 3, 1, 1)}
    evo = convolution | {f"1.{k}": v for k, v in {**own, "v": GAMMA}.items()}
    path = save(evo, tmp_path / "evo.pt")
    assert layers_in(path)["1"].kind.name == "EvoNorm-B"
    assert not accused(path)
    half = convolution | {f"1.{k}": v for k, v in own.items()}
    assert accused(save(half, tmp_path / "half.pt")) == {"NC107"}


class OwnNorm(nn.Module):
    """A norm of a project's own, with a buffer whose name tells nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(GAMMA)
        self.register_buffer("state", MEAN)


def test_unknown_buffers_are_not_vouched_for(tmp_path: Path) -> None:
    """A norm that keeps what nobody knows is not said to keep nothing that could go stale."""
    path = save(nn.Sequential(nn.Linear(C, C), OwnNorm()), tmp_path / "model.pt")
    (model,) = report_on(path).models
    (found,) = model.layers
    assert "buffers of its own (state)" in found.why


@pytest.mark.parametrize(
    ("leaves", "kind"),
    [
        (("weight", "bias", "v"), "EvoNorm-S"),
        (("weight", "bias", "tau"), "FilterResponseNorm"),
        (("gamma", "beta", "tau"), "FilterResponseNorm"),
        (("weight", "bias", "mean_scale"), "GraphNorm"),
    ],
)
def test_parameters_of_their_own(leaves: tuple[str, ...], kind: str, tmp_path: Path) -> None:
    """Kinds without statistics that one more parameter tells, whatever its shape."""
    state = {
        "0.weight": torch.ones(C, 3, 1, 1),
        **{f"1.{n}": GAMMA.view(1, C, 1, 1) for n in leaves},
    }
    assert layers_in(save(state, tmp_path / "a.pt"))["1"].kind.name == kind
    state[f"1.{leaves[2]}"] = torch.ones(C + 1)
    found = layers_in(save(state, tmp_path / "b.pt")).get("1")
    assert found is None or found.kind.name != kind


@pytest.mark.parametrize("names", ["Keras", "sb3-contrib", "Paddle", "Chainer"])
@pytest.mark.parametrize("beta", [False, True], ids=["no affine", "center alone"])
@pytest.mark.parametrize("whole", [False, True], ids=["state dict", "module"])
def test_without_gamma(names: str, beta: bool, whole: bool, tmp_path: Path) -> None:
    """Built without scale, names that are one library's alone tell a norm all the same."""

    def built(mean: Tensor, variance: Tensor) -> nn.Module:
        module = layer(NAMES[names], mean, variance)
        del module.weight
        if not beta:
            del module.bias
        return around(module)

    def saved(model: nn.Module) -> Path:
        return save(model if whole else model.state_dict(), tmp_path / "model.pt")

    found = layers_in(saved(built(MEAN, VARIANCE)))["1"]
    assert found.kind.family is Family.BATCH
    assert found.has_statistics
    assert found.weight is None
    assert not accused(tmp_path / "model.pt")
    never = built(torch.zeros(C), torch.ones(C))
    trained = around(layer(NAMES["Keras"], MEAN, VARIANCE))
    report = report_on(saved(nn.Sequential(trained, never)))
    (finding,) = (f for f in report.findings if f.rule in {"NC101", "NC102"})
    # Without β and a count nothing of its own shows whether it took part.
    assert (finding.severity is Severity.INFO) is not (beta or bool(NAMES[names][2]))


class EvoNorm2dB1(nn.Module):
    """As timm has it: a variance, γ and β, and no v."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(GAMMA), nn.Parameter(BETA)
        self.register_buffer("running_var", VARIANCE)


@pytest.mark.parametrize("whole", [False, True], ids=["state dict", "module"])
def test_variance_alone_by_metadata(whole: bool, tmp_path: Path) -> None:
    """Metadata of another version than BatchNorm's: no half of its statistics is missing."""
    model = around(EvoNorm2dB1())
    path = save(model if whole else model.state_dict(), tmp_path / "model.pt")
    assert layers_in(path)["1"].kind.name == "EvoNorm-B"
    assert not accused(path)
    batch = nn.Sequential(nn.Conv2d(3, C, 1), nn.BatchNorm2d(C)).state_dict()
    del batch["1.running_mean"], batch["1.num_batches_tracked"]
    assert accused(save(batch, path)) == {"NC107"}


def test_parameters_of_either_evonorm(tmp_path: Path) -> None:
    """γ, β and v alone are those of EvoNorm-S, and of EvoNorm-B whose variance was not saved."""
    state = {f"1.{name}": GAMMA for name in ("weight", "bias", "v")}
    state = {"0.weight": torch.ones(C, 3, 1, 1), **state}
    (found,) = report_on(save(state, tmp_path / "model.pt")).models[0].layers
    assert found.standing is Standing.UNTOLD


class GlobLN(nn.Module):
    """As asteroid has it."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(GAMMA), nn.Parameter(BETA)


def test_layer_norms_of_speech(tmp_path: Path) -> None:
    """Known by their classes, which are not called norms."""
    path = save(nn.Sequential(nn.Conv1d(3, C, 1), GlobLN()), tmp_path / "model.pt")
    assert layers_in(path)["1"].kind.name == "LayerNorm"
