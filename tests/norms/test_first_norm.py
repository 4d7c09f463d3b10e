"""The first norm against its own weights: whether its variances follow them."""

import warnings
from collections.abc import Callable
from math import isfinite
from pathlib import Path

import pytest
import torch
from torch import nn

import normcheck
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.norms.belonging.first_norm import FirstNorm
from normcheck.norms.find_norms import anatomy_of
from normcheck.pipeline.left_open import LOOSE, OF_TWO
from normcheck.report.report import Standing
from normcheck.rules.evidence.evidence_apart import of_first

from .settled import anatomy

pytestmark = [pytest.mark.slow, pytest.mark.kernels]

State = dict[str, torch.Tensor]


def _settled(seed: int) -> nn.Sequential:
    """A network whose statistics are those of smooth images, as photographs are."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
    )  # fmt: skip
    nn.init.normal_(model[0].weight)  # type: ignore[arg-type]
    for layer in model:
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
            nn.init.normal_(layer.bias, 0.0, 0.3)
    smooth = nn.AvgPool2d(5, stride=1, padding=2)
    with torch.no_grad():
        for _ in range(6):
            model(6 * smooth(torch.randn(16, 1, 16, 16)))
    return model


def _average(one: State, other: State) -> State:
    return {k: (v + other[k]) / 2 if v.is_floating_point() else v for k, v in one.items()}


def _first(state: State, folder: Path) -> FirstNorm:
    model = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32))
    model.load_state_dict(state, strict=False)
    found = anatomy(model, folder).first
    assert found is not None
    return found


def test_variances_follow_their_own_weights_and_no_average_of_two(tmp_path: Path) -> None:
    """As a rate over seeds: of weights averaged over two trainings most follow none."""
    states = [_settled(seed).state_dict() for seed in range(12)]
    own = [_first(state, tmp_path).loose for state in states]
    mixed = [
        _first(_average(one, other), tmp_path).loose
        for one, other in zip(states, states[1:] + states[:1], strict=True)
    ]
    assert max(own) < LOOSE
    assert sum(loose > LOOSE for loose in mixed) >= 9


def test_negative_variances_are_read_without_a_warning(tmp_path: Path) -> None:
    """A constant channel that an export left a rounding below 0, where a pooling may stand."""
    torch.manual_seed(1)
    model = nn.ModuleDict({"conv": nn.Conv2d(3, 16, 3, bias=False), "bn": nn.BatchNorm2d(16)})
    norm = model["bn"]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_var is not None
    norm.running_mean = model["conv"].weight.sum((1, 2, 3)).detach() + 0.1 * torch.randn(16)
    norm.running_var.uniform_(0.5, 2.0)[3] = -7.8e-13
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = anatomy(model, tmp_path).first
    assert first is not None
    assert isfinite(first.leftover)


def _accused(state: State, folder: Path) -> bool:
    against = [one for one in of_first(_first(state, folder)) if one.speaks]
    return "first variances apart" in {one.key for one in against}


def test_variances_that_follow_no_input_accuse_the_first_norm(tmp_path: Path) -> None:
    """In another order of its channels, or under weights that went far; its own never do."""
    found = {"own": 0, "permuted": 0, "moved": 0}
    for seed in range(12):
        state = _settled(seed).state_dict()
        found["own"] += _accused(state, tmp_path)
        order = torch.randperm(32, generator=torch.Generator().manual_seed(seed))
        other = {k: v[order] if "1.running" in k else v for k, v in state.items()}
        found["permuted"] += _accused(other, tmp_path)
        weights = torch.randn(state["0.weight"].shape)
        found["moved"] += _accused({**state, "0.weight": weights}, tmp_path)
    assert found["own"] == 0
    assert min(found["permuted"], found["moved"]) >= 9


def test_inputs_that_need_not_vary_alike_accuse_nobody(tmp_path: Path) -> None:
    """Planes of a board, or features of a table, each have a variance of their own."""
    for weights, shape in ((nn.Conv2d(5, 32, 3), (5, 16, 16)), (nn.Linear(5, 32), (5,))):
        norm = nn.BatchNorm2d(32) if len(shape) > 1 else nn.BatchNorm1d(32)
        model = nn.Sequential(weights, norm)
        norm.momentum = None
        with torch.no_grad():
            model(torch.randn(64, *shape) * torch.logspace(-2, 2, 5).view(5, *[1] * len(shape[1:])))
        found = anatomy(model, tmp_path).first
        assert found is not None
        assert "first variances apart" not in {one.key for one in of_first(found)}


@pytest.mark.parametrize(("power", "speaks"), [(0.4, False), (-1.0, True)])
def test_of_signals_over_time_only_inverses_are_told(
    tmp_path: Path, power: float, speaks: bool
) -> None:
    """They go together more than any input that is tried, by as much as flat variances would."""
    torch.manual_seed(4)
    model = nn.Sequential(nn.Conv1d(2, 48, 5, bias=False), nn.BatchNorm1d(48))
    with torch.no_grad():
        model[0].weight.mul_(torch.linspace(-1, 1, 48).exp()[:, None, None])
        for _ in range(60):
            model(torch.randn(16, 2, 40))
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_var is not None
    norm.running_var.pow_(power)
    first = anatomy(model, tmp_path).first
    assert first is not None
    assert first.spread == pytest.approx(power, abs=0.1)
    found = {one.key for one in of_first(first) if one.speaks}
    assert ("first variances" in found) is speaks


def test_nothing_vouches_for_an_average_of_two_trainings(tmp_path: Path) -> None:
    """Its means fit all the same; where each comes from one training they vouch."""
    file = tmp_path / "model.pt"
    one, other = (_settled(seed).state_dict() for seed in (1, 2))
    torch.save(one, file)
    (healthy,) = normcheck.scan([file]).models
    assert sum(layer.standing is Standing.VOUCHED for layer in healthy.layers) == 2
    torch.save(_average(one, other), file)
    (mixed,) = normcheck.scan([file]).models
    assert [layer.standing for layer in mixed.layers[1:]] == [Standing.UNTOLD] * 2
    assert {layer.why for layer in mixed.layers[1:]} == {OF_TWO}


def test_a_kernel_of_many_taps_takes_no_memory_of_their_square(tmp_path: Path) -> None:
    """65,536 taps, each with each, are 34 gigabytes."""
    model = nn.Sequential(nn.Conv1d(1, 16, 1 << 14, bias=False), nn.BatchNorm1d(16))
    nn.init.normal_(model[1].running_mean)  # type: ignore[arg-type]
    first = anatomy(model, tmp_path).first
    assert first is not None
    assert (first.spread, first.loose) == (None, 0.0)


class _GraphAttention(nn.Module):
    """Heads that weigh what was projected by two scores, and a bias behind: all of them its own."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.sink = (nn.Parameter(torch.randn(4, 16)) for _ in range(2))
        self.bias = nn.Parameter(torch.randn(64))
        self.lin = nn.Linear(3, 64, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = self.lin(x).unflatten(-1, (4, 16))
        scores = (heads * self.sink).sum(-1)[:, None] + (heads * self.source).sum(-1)[None]
        mixed: torch.Tensor = torch.einsum("ijh,jhc->ihc", scores.softmax(1), heads).flatten(1)
        return mixed + self.bias


@pytest.mark.parametrize("first", [_GraphAttention, lambda: nn.MultiheadAttention(64, 4)])
@pytest.mark.parametrize("seed", range(3))
def test_a_projection_inside_another_module_is_no_first_layer(
    tmp_path: Path, first: Callable[[], nn.Module], seed: int
) -> None:
    """What the module adds of its own stands between its last weights and the norm."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix, self.norm = first(), nn.BatchNorm1d(64, momentum=None)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mixed = self.mix(x) if x.shape[1] == 3 else self.mix(x, x, x)[0] + x
            normed: torch.Tensor = self.norm(mixed)
            return normed

    torch.manual_seed(seed)
    model = Net()
    with torch.no_grad():
        for _ in range(20):
            inputs = 1 + torch.randn(50, 3 if hasattr(model.mix, "lin") else 64)
            model(inputs)
    model.norm.num_batches_tracked.fill_(1000)  # type: ignore[operator]
    assert anatomy(model, tmp_path).first is None


class _Named(nn.Module):
    """Names that do not tell what stands between the first weights and their norm."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.fc1, self.bn1 = nn.Linear(8, 64), nn.BatchNorm1d(64, momentum=None)
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = self.bn1(self.activation(self.fc1(x)))
        return normed


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(0.2), nn.GELU(), nn.SiLU()])
@pytest.mark.parametrize("numbered", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_an_activation_between_the_first_weights_and_their_norm(
    tmp_path: Path, activation: nn.Module, seed: int, *, numbered: bool
) -> None:
    """Numbers of a Sequential leave room for it; elsewhere nearly all means are positive."""
    torch.manual_seed(seed)
    linear, norm = nn.Linear(8, 64), nn.BatchNorm1d(64, momentum=None)
    model = nn.Sequential(linear, activation, norm) if numbered else _Named(activation)
    with torch.no_grad():
        for _ in range(20):
            model(3 * torch.randn(64, 8))
    assert anatomy(model, tmp_path).first is None


@pytest.mark.parametrize("seed", range(6))
def test_first_norms_right_behind_their_weights_are_read(tmp_path: Path, seed: int) -> None:
    """Of inputs that are all positive, too: means have both signs, as weights have."""
    torch.manual_seed(seed)
    model = _Named(nn.Identity())
    with torch.no_grad():
        for _ in range(20):
            model(torch.rand(64, 8))
    found = anatomy(model, tmp_path).first
    assert found is not None
    assert found.leftover < 0.1


FORMS = (".pt", ".pt2", ".onnx", ".ts")


def _saved(model: nn.Module, folder: Path, form: str, *shape: int) -> Path:
    """A model in eval mode in a format that shows what the input reaches."""
    file, example = folder / f"model{form}", torch.randn(2, *shape)
    if form == ".pt":
        torch.save(model.state_dict(), file)
    elif form == ".pt2":
        torch.export.save(torch.export.export(model, (example,)), file)
    elif form == ".ts":
        torch.jit.trace(model, example).save(str(file))  # type: ignore[no-untyped-call]
    else:
        preserved = torch.onnx.TrainingMode.PRESERVE
        torch.onnx.export(
            model, (example,), str(file), dynamo=False, training=preserved,
            do_constant_folding=False,
        )  # fmt: skip
    return file


def _in_file(file: Path) -> FirstNorm | None:
    checkpoint = read_checkpoint(file)
    try:
        return anatomy_of(checkpoint.models[0]).first
    finally:
        checkpoint.close()


@pytest.mark.filterwarnings("ignore")  # of exporters
@pytest.mark.parametrize("form", FORMS[1:])
def test_an_export_tells_the_same_of_its_input(tmp_path: Path, form: str) -> None:
    """A graph shows that the input reaches the first weights."""
    model = _settled(3).eval()
    own = _in_file(_saved(model, tmp_path, ".pt", 1, 16, 16))
    exported = _in_file(_saved(model, tmp_path, form, 1, 16, 16))
    assert own is not None
    assert exported is not None
    assert exported.path == own.path
    assert exported.means == pytest.approx(own.means)
    assert exported.deviation == pytest.approx(own.deviation)


class Brightened(nn.Module):
    """Something of the model's own stands between the input and the first weights."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.model(x.abs().sqrt())
        return made


@pytest.mark.filterwarnings("ignore")  # of exporters
@pytest.mark.parametrize("form", FORMS[1:])
def test_an_export_tells_nothing_of_what_is_no_input(tmp_path: Path, form: str) -> None:
    """What it would say is of values that the user never sees."""
    model = Brightened(_settled(3)).eval()
    assert _in_file(_saved(model, tmp_path, form, 1, 16, 16)) is None


@pytest.mark.filterwarnings("ignore")  # of exporters
@pytest.mark.parametrize("form", FORMS)
def test_deviations_in_the_first_norm_are_told(tmp_path: Path, form: str) -> None:
    """By the same reading in each format: its variances spread half as far as its weights make."""
    for seed in range(3):
        model = _settled(seed).eval()
        healthy = normcheck.scan([_saved(model, tmp_path, form, 1, 16, 16)]).findings
        assert not [finding for finding in healthy if finding.rule == "NC108"]
        model[1].running_var.sqrt_()  # type: ignore[operator]
        sick = normcheck.scan([_saved(model, tmp_path, form, 1, 16, 16)]).findings
        assert any("1" in finding.layers for finding in sick if finding.rule == "NC108")
