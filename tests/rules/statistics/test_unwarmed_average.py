"""NC115: an average that still holds its initial values, told from the copy beside it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from normcheck.findings import Severity
from normcheck.norms.layer import NormLayer
from normcheck.report.report import Report
from normcheck.runs.scan import scan
from normcheck.saved.clocks import Clock, Unit
from tests.rules.layers import batch_norm, copy_of, count, evidence, judge, only, plain_norm, values

RULE = "unwarmed-average"
CHANNELS = 32
State = dict[str, torch.Tensor]


def run(steps: int, decay: float, *, warm_up: bool = False, seed: int = 0) -> tuple[Any, Any]:
    """Values of three norms at the end of a training, and their average, each by kind."""
    rng = np.random.default_rng(seed)
    initial = {"running_mean": 0.0, "running_var": 1.0, "weight": 1.0, "bias": 0.0}
    ends = {
        "running_mean": rng.normal(0, 1, (3, CHANNELS)),
        "running_var": np.exp(rng.normal(0, 1, (3, CHANNELS))),
        "weight": 1 + rng.normal(0, 0.2, (3, CHANNELS)),
        "bias": rng.normal(-0.1, 0.2, (3, CHANNELS)),
    }
    raw = {kind: np.full((3, CHANNELS), start) for kind, start in initial.items()}
    average = dict(raw)
    for step in range(steps):
        d = min(decay, (1 + step) / (10 + step)) if warm_up else decay
        for kind, end in ends.items():
            pace = 0.1 if kind.startswith("running") else 5 / steps
            raw[kind] = raw[kind] + pace * (end - raw[kind]) + rng.normal(0, 0.005, end.shape)
            average[kind] = d * average[kind] + (1 - d) * raw[kind]
    return raw, average


def norms(held: Any, *, batches: int = 400, **changes: Any) -> list[NormLayer]:
    """Three batch norms of these values."""
    return [
        batch_norm(
            f"bn{place}", features=CHANNELS, batches=count(batches),
            **{kind: values(numbers[place]) for kind, numbers in held.items()}, **changes,
        )
        for place in range(3)
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("steps", "decay"), [(600, 0.9999), (600, 0.999), (3000, 0.9999)])
def test_an_average_that_never_warmed_up(steps: int, decay: float, seed: int) -> None:
    """Named with its share, the decay behind it, and one that would do."""
    raw, average = run(steps, decay, seed=seed)
    clock = Clock("global_step", steps, Unit.STEPS)
    found = only(
        judge(RULE, *norms(average), siblings=(copy_of("model", *norms(raw)),), clocks=(clock,),
              where="ema")
    )  # fmt: skip
    assert found.severity is Severity.WARNING
    assert evidence(found)["share of initial values"] == pytest.approx(decay**steps, abs=0.05)
    assert "never warmed up" in found.title
    assert f"After {steps:,} steps that is a decay of about 0.99" in found.detail
    assert "use 'model'" in found.fix
    assert "re-estimate" not in found.fix


def next_to_initial(seed: int, moved: float) -> tuple[Any, Any]:
    """A model, and an average of which variances tell 95 % initial; γ, β and means went elsewhere.

    Args:
        seed: For both.
        moved: How far those of the average are from initial, as a share of the model's distance.
    """
    raw, _ = run(600, 0.99, seed=seed)
    rng = np.random.default_rng(100 + seed)

    def elsewhere(of: Any, start: float) -> Any:
        return start + moved * rng.permuted(of - start, axis=1)

    average = {
        "running_var": 1 + 0.05 * (raw["running_var"] - 1),
        "running_mean": elsewhere(raw["running_mean"], 0.0),
        "weight": elsewhere(raw["weight"], 1.0),
        "bias": elsewhere(raw["bias"], 0.0),
    }
    return raw, average


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("moved", "named"), [(0.04, True), (0.6, False)])
def test_what_is_next_to_initial_need_not_point_anywhere(
    seed: int, moved: float, *, named: bool
) -> None:
    """After 200 steps at 0.9999 an average went 2 % of the way, and not straight to the end."""
    raw, average = next_to_initial(seed, moved)
    found = judge(RULE, *norms(average), siblings=(copy_of("model", *norms(raw)),), where="ema")
    assert [evidence(f)["share of initial values"] for f in found] == (
        [pytest.approx(0.95)] if named else []
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("initial", [True, False], ids=["an initial 1", "an average that lags"])
def test_no_variance_lies_below_what_is_initial(seed: int, *, initial: bool) -> None:
    """A copy whose variances were smaller while the model still moved is 25 % short as well."""
    raw, _ = run(600, 0.99, seed=seed)
    raw["running_var"] = np.exp(np.random.default_rng(seed).normal(1, 1.5, (3, CHANNELS)))
    average = {
        "running_var": 0.75 * raw["running_var"] + (0.25 if initial else 0.0),
        "running_mean": 0.75 * raw["running_mean"],
        "weight": 1 + 0.75 * (raw["weight"] - 1),
        "bias": 0.75 * raw["bias"],
    }
    found = judge(RULE, *norms(average), siblings=(copy_of("model", *norms(raw)),), where="ema")
    assert [evidence(f)["share of initial values"] for f in found] == (
        [pytest.approx(0.25, abs=0.01)] if initial else []
    )


@pytest.mark.parametrize(("where", "named"), [("ema", True), ("first", False)])
def test_a_count_of_one_is_that_of_averaged_integers(where: str, *, named: bool) -> None:
    """It leaves 90 %, as 1,000 steps at 0.9999 do; a state of the first batch is no average."""
    raw, average = run(1000, 0.9999)
    sibling = (copy_of("model", *norms(raw)),)
    found = judge(RULE, *norms(average, batches=1), siblings=sibling, where=where)
    assert len(found) == named


def test_statistics_tell_it_whatever_the_copy_is_called() -> None:
    """No earlier state of a model has variances like these."""
    raw, average = run(600, 0.999)
    found = only(judge(RULE, *norms(average), siblings=(copy_of("b", *norms(raw)),), where="a"))
    assert "variances, means, γ and β" in found.detail


@pytest.mark.parametrize(
    "buffers", ["copied", "kept from the start", "none"],
)  # fmt: skip
def test_gains_and_shifts_alone(buffers: str) -> None:
    """Of averages whose buffers were copied, left behind, or are not there at all."""
    raw, average = run(600, 0.9999)
    changes: dict[str, Any] = {}
    if buffers == "copied":
        average |= {kind: raw[kind] for kind in ("running_mean", "running_var")}
    elif buffers == "none":
        changes = {"running_mean": None, "running_var": None, "batches": None}
    else:
        average |= {"running_mean": 0 * raw["bias"], "running_var": 1 + 0 * raw["bias"]}
    raws, averages = norms(raw), norms(average)
    if changes:
        raws, averages = (
            [
                plain_norm(n.path, features=CHANNELS, weight=n.weight, bias=n.bias)
                for n in layers
            ]
            for layers in (raws, averages)
        )  # fmt: skip
    sibling = (copy_of("model", *raws),)
    assert "γ and β" in only(judge(RULE, *averages, siblings=sibling, where="ema")).detail
    assert judge(RULE, *averages, siblings=sibling, where="best") == []


def test_the_first_steps_are_no_fault() -> None:
    """After fifty steps no usual decay is warm."""
    raw, average = run(50, 0.999)
    clock = Clock("global_step", 50, Unit.STEPS)
    sibling = (copy_of("model", *norms(raw)),)
    found = only(judge(RULE, *norms(average), siblings=sibling, clocks=(clock,), where="ema"))
    assert found.severity is Severity.INFO


class TestHealthy:
    """Copies in one file of which nothing is to be said."""

    @pytest.mark.parametrize(("decay", "warm_up"), [(0.99, False), (0.9, False), (0.9999, True)])
    def test_averages_that_had_time(self, decay: float, *, warm_up: bool) -> None:
        """By their decay, or by a warm-up."""
        raw, average = run(600, decay, warm_up=warm_up)
        for one, other in ((raw, average), (average, raw)):
            sibling = (copy_of("model", *norms(other)),)
            assert judge(RULE, *norms(one), siblings=sibling, where="ema") == []

    def test_the_raw_copy(self) -> None:
        """Only the average is accused."""
        raw, average = run(600, 0.9999)
        sibling = (copy_of("ema", *norms(average)),)
        assert judge(RULE, *norms(raw), siblings=sibling, where="model") == []

    def test_an_earlier_state(self) -> None:
        """``best`` beside ``last``: γ and β were smaller, variances other ones."""
        last, _ = run(600, 0.9)
        early = {kind: held * 0.4 for kind, held in last.items()}
        early["running_var"] = last["running_var"] * 1.1
        early["weight"] = 1 + (last["weight"] - 1) * 0.4
        for name in ("best", "ema"):
            sibling = (copy_of("last", *norms(last)),)
            assert judge(RULE, *norms(early), siblings=sibling, where=name) == []

    def test_a_state_of_the_first_batches(self) -> None:
        """Its own count says that 81 % of its statistics are initial."""
        last, _ = run(600, 0.9)
        first, _ = run(2, 0.9)
        sibling = (copy_of("last", *norms(last)),)
        assert judge(RULE, *norms(first, batches=2), siblings=sibling, where="ema") == []

    def test_independent_models_and_equal_ones(self) -> None:
        """Folds of a cross-validation; the same state twice."""
        one, other = run(600, 0.9)[0], run(600, 0.9, seed=9)[0]
        for first, second in ((one, other), (one, one)):
            sibling = (copy_of("fold1", *norms(second)),)
            assert judge(RULE, *norms(first), siblings=sibling, where="ema") == []

    def test_an_average_that_has_not_begun(self) -> None:
        """Exactly initial: another rule says it."""
        raw, _ = run(600, 0.9)
        new, _ = run(0, 0.9)
        sibling = (copy_of("model", *norms(raw)),)
        assert judge(RULE, *norms(new), siblings=sibling, where="ema") == []

    def test_other_norms(self) -> None:
        """A generator beside a discriminator."""
        raw, average = run(600, 0.9999)
        sibling = (copy_of("model", *norms(raw)[:2]),)
        assert judge(RULE, *norms(average), siblings=sibling, where="ema") == []


def _trained(seed: int, decay: float, file: Path) -> Report:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 32), nn.BatchNorm1d(32),
        nn.ReLU(), nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    inputs, labels = torch.randn(512, 16) * torch.linspace(0.3, 3, 16), torch.randint(4, (512,))
    ema = {k: v.clone() for k, v in model.state_dict().items()}
    for step in range(200):
        rows = torch.arange(32) + 32 * (step % 16)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs[rows]), labels[rows]).backward()
        optimizer.step()
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                ema[name].lerp_(value, 1 - decay)
            else:
                ema[name].copy_(value)
    torch.save({"model": model.state_dict(), "model_ema": ema, "global_step": 200}, file)
    return scan([file])


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("seed", range(2))
def test_a_real_training(seed: int, tmp_path: Path) -> None:
    """One finding: no statistics to re-estimate, no foreign statistics beside it."""
    report = _trained(seed, 0.9999, tmp_path / "run.pt")
    assert [(f.rule, f.where) for f in report.findings if f.severity.rank] == [
        ("NC115", "model_ema")
    ]
    assert not [f for f in _trained(seed, 0.95, tmp_path / "warm.pt").findings if f.severity.rank]
