"""Statistics that do not belong to the weights: detected, named, and no false alarm."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck.findings import Finding, Severity
from normcheck.norms.belonging.agreement import ALIKE
from normcheck.norms.traces.bias_trace import BiasTrace
from normcheck.norms.traces.gradient_trace import Used
from normcheck.rules.evidence.mismatch_causes import LEFT_OPEN
from normcheck.rules.rule import CannotTell, Subject
from normcheck.rules.statistics.foreign_stats import check
from tests.norms.settled import CHANNELS, anatomy, conv_net, settle


def _findings(model: nn.Module, folder: Path) -> list[Finding]:
    return list(check(Subject(anatomy(model, folder))))


def _norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


@pytest.fixture(scope="module")
def healthy() -> nn.Module:
    """Eight blocks whose statistics belong to their weights."""
    torch.manual_seed(0)
    return settle(conv_net(nn.ReLU(), blocks=8), 3, 16, 16)


def _with_fault(healthy: nn.Module, fault: Callable[[nn.BatchNorm2d], None]) -> nn.Module:
    """A copy with the fault in every norm."""
    torch.manual_seed(0)
    sick = copy.deepcopy(healthy)
    for norm in _norms(sick):
        fault(norm)
    return sick


def _permute(norm: nn.BatchNorm2d) -> None:
    order = torch.randperm(CHANNELS)
    norm.running_mean.copy_(norm.running_mean[order].clone())
    norm.running_var.copy_(norm.running_var[order].clone())


def _swap(norm: nn.BatchNorm2d) -> None:
    mean = norm.running_mean.clone()
    norm.running_mean.copy_(norm.running_var)
    norm.running_var.copy_(mean)


def _scale(factor: float) -> Callable[[nn.BatchNorm2d], None]:
    def change(norm: nn.BatchNorm2d) -> None:
        norm.running_mean.mul_(factor)
        norm.running_var.mul_(factor**2)

    return change


def _initial(share: float) -> Callable[[nn.BatchNorm2d], None]:
    def change(norm: nn.BatchNorm2d) -> None:
        norm.running_mean.mul_(1 - share)
        norm.running_var.mul_(1 - share).add_(share)

    return change


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (_permute, "unrelated"),
        (_swap, "swapped"),
        (_scale(3.0), "factor"),
        (_scale(1 / 3), "factor"),
        (_initial(0.5), "initial value"),
        (_initial(0.9), "initial value"),
    ],
)
def test_gross_faults_are_detected_and_named(
    tmp_path: Path, healthy: nn.Module, fault: Callable[[nn.BatchNorm2d], None], cause: str
) -> None:
    """Each fault is one finding that lists the layers and suggests its cause."""
    sick = _with_fault(healthy, fault)
    (finding,) = _findings(sick, tmp_path)
    assert finding.discriminator == cause
    assert finding.severity.rank >= Severity.WARNING.rank
    assert len(finding.layers) == 7
    assert finding.evidence[0].sample == 7 * CHANNELS


def test_the_initial_value_is_told_where_little_else_is_left(tmp_path: Path) -> None:
    """A tenth of the means fits no activation; these weights seem to have another one then."""
    torch.manual_seed(1000)
    sick = settle(conv_net(nn.ReLU(), blocks=8), 3, 16, 16)
    for norm in _norms(sick):
        _initial(0.9)(norm)
    (finding,) = _findings(sick, tmp_path)
    assert finding.discriminator == "initial value"


def _moved_together(used: Used) -> BiasTrace:
    return BiasTrace(used, 0.5, 6.2, 0.8, ("1", "4"), 2 * CHANNELS)


@pytest.mark.parametrize(("fault", "left"), [(_permute, True), (_scale(1 / 3), True),
                                             (_swap, False)])  # fmt: skip
def test_weights_that_were_trained_with_the_statistics(
    tmp_path: Path, healthy: nn.Module, fault: Callable[[nn.BatchNorm2d], None], left: bool
) -> None:
    """Biases that moved with β turn a misfit into a note, but no slip that nothing trains."""
    sick = _with_fault(healthy, fault)
    read = anatomy(sick, tmp_path)
    (told,) = check(Subject(read, biases=lambda _paths: _moved_together(Used.STORED)))
    (alone,) = check(Subject(read, biases=lambda _paths: _moved_together(Used.BATCH)))
    assert (told.severity is Severity.INFO) is left
    assert alone.severity.rank >= Severity.WARNING.rank
    if left:
        assert told.title.startswith("the weights were trained on with these")
        assert alone.detail.removesuffix(LEFT_OPEN).rstrip() in told.detail
        assert "cannot tell" not in told.detail
        assert "re-estimating would ruin it" in told.consequence


@pytest.mark.parametrize(
    ("batches", "severity"),
    [(123, Severity.WARNING), (999, Severity.WARNING), (1000, Severity.INFO), (0, Severity.INFO)],
)
def test_training_that_went_on_in_eval_mode_after_its_first_epoch(
    tmp_path: Path, healthy: nn.Module, batches: int, severity: Severity
) -> None:
    """Nobody freezes norms after so few batches: the first validation did it."""
    sick = _with_fault(healthy, _permute)
    for norm in _norms(sick):
        norm.num_batches_tracked.fill_(batches)
    read = anatomy(sick, tmp_path)
    (told,) = check(Subject(read, biases=lambda _paths: _moved_together(Used.STORED)))
    assert told.severity is severity
    assert ("in eval mode after" in told.title) is (severity is Severity.WARNING)
    assert "re-estimating would ruin it" in told.consequence
    assert "model.train()" in told.fix or severity is Severity.INFO
    next(n for n in _norms(sick)).num_batches_tracked.fill_(50_000)
    read = anatomy(sick, tmp_path)
    (told,) = check(Subject(read, biases=lambda _paths: _moved_together(Used.STORED)))
    assert told.severity is Severity.INFO


def test_healthy_statistics_are_not_accused(tmp_path: Path, healthy: nn.Module) -> None:
    """No finding where weights and statistics belong together."""
    assert _findings(healthy, tmp_path) == []


def test_statistics_of_another_model(tmp_path: Path, healthy: nn.Module) -> None:
    """The same network from another seed gives statistics, not weights."""
    torch.manual_seed(7)
    other = settle(conv_net(nn.ReLU(), blocks=8), 3, 16, 16, seed=7)
    mixed = copy.deepcopy(healthy)
    mixed.load_state_dict(
        healthy.state_dict() | {k: v for k, v in other.state_dict().items() if "running" in k}
    )
    (finding,) = _findings(mixed, tmp_path)
    assert finding.discriminator == "unrelated"
    assert finding.severity is Severity.ERROR
    assert finding.confidence.value == "high"


def _of_one_level(seed: int) -> nn.Module:
    """Weights that lower all channels alike, as sparse networks have them."""
    torch.manual_seed(seed)
    model = conv_net(nn.ReLU(), blocks=6)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.sub_(0.02)
    return settle(model, 3, 16, 16, seed=seed)


@pytest.mark.parametrize("seed", range(4))
def test_a_common_level_of_means_vouches_for_no_order(tmp_path: Path, seed: int) -> None:
    """It is explained in any order of the channels: which mean is whose has to be, too."""
    model = _of_one_level(seed)
    before = anatomy(model, tmp_path).agreement
    assert before is not None
    assert len(before.agreeing) == len(before.fits) == 5
    assert _findings(model, tmp_path) == []
    for norm in _norms(model):
        _permute(norm)
    agreement = anatomy(model, tmp_path).agreement
    assert agreement is not None
    assert min(fit.explained for fit in agreement.fits) > 0.9
    assert agreement.agreeing == ()
    assert set(agreement.doubted.values()) == {ALIKE}
    (finding,) = _findings(model, tmp_path)
    assert finding.discriminator == "unrelated"
    assert "which of them has which mean" in finding.detail


@pytest.mark.parametrize(("apart", "drifted"), [(7, True), (3, False)])
def test_time_moves_all_layers(
    tmp_path: Path, healthy: nn.Module, apart: int, drifted: bool
) -> None:
    """Means that lost half of what weights tell are of another time, unless most follow closely."""
    sick = copy.deepcopy(healthy)
    torch.manual_seed(1)
    for norm in _norms(sick)[-apart:]:
        mean = norm.running_mean
        mean.copy_(0.6 * mean + 0.8 * mean.std() * torch.randn(CHANNELS))
        order = torch.randperm(CHANNELS)
        norm.running_var.copy_(norm.running_var[order].clone())
    found = {finding.discriminator for finding in _findings(sick, tmp_path)}
    assert ("drifted" in found) is drifted


def test_single_layers_are_named(tmp_path: Path, healthy: nn.Module) -> None:
    """Two layers of seven: only these are accused, with the others as the evidence."""
    torch.manual_seed(0)
    sick = copy.deepcopy(healthy)
    for index in (3, 5):
        _permute(_norms(sick)[index])
    (finding,) = _findings(sick, tmp_path)
    assert finding.discriminator == "layers"
    assert finding.layers == ("10", "16")
    assert "the 5 layers at the same place" in finding.detail


def test_too_few_links_cannot_tell(tmp_path: Path) -> None:
    """With two links the rule says so instead of guessing."""
    with pytest.raises(CannotTell, match="2 norms of 3"):
        _findings(settle(conv_net(nn.ReLU(), blocks=3), 3, 16, 16), tmp_path)


def test_sample_with_foreign_statistics(samples: Path) -> None:
    """The sample that no other rule notices."""
    import normcheck

    report = normcheck.scan([samples / "foreign-statistics.pt"])
    assert [f.rule for f in report.findings if f.severity.rank] == ["NC108"]


class _Parallel(nn.Module):
    """Branches side by side: every neighbouring pair of keys is a link that does not exist."""

    def __init__(self) -> None:
        super().__init__()
        self.units = nn.ModuleList(
            nn.ModuleDict({"conv": nn.Conv2d(24, 24, 3, padding=1), "bn": nn.BatchNorm2d(24)})
            for _ in range(8)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([u["bn"](u["conv"](x)) for u in self.units]).sum(0)


def test_parallel_branches_accuse_nobody(tmp_path: Path) -> None:
    """False links predict nonsense, and the variances show that the links are false."""
    model = _Parallel()
    # Output channels of different strength, as training leaves them.
    with torch.no_grad():
        for unit in model.units:
            unit["conv"].weight.mul_(torch.rand(24).mul(2).add(0.2)[:, None, None, None])  # type: ignore[index]
    assert _findings(settle(model, 24, 12, 12), tmp_path) == []
