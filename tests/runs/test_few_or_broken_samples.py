"""Data that are too few, or hold NaN: what is said of them, and that they vouch for nothing."""

import pytest
import torch
from torch import Tensor, nn

import normcheck
from normcheck import Report
from normcheck.live.batches import Batch

pytestmark = pytest.mark.kernels


class Net(nn.Module):
    """A small classifier whose statistics are those of its data."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, momentum=None)
        self.last = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


class Logarithm(Net):
    """Its outputs are NaN whatever the data are."""

    def forward(self, x: Tensor) -> Tensor:
        return (-super().forward(x).abs() - 1).log()


def images(count: int) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def judged(x: Tensor, kind: type[Net] = Net) -> Report:
    """What a scan says of a trained network on these inputs."""
    model = kind()
    with torch.no_grad():
        model.train()(images(64))
    report = normcheck.scan(model.eval(), data=x)
    assert report.errors == ()
    return report


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_samples_are_not_said_to_be_none(count: int) -> None:
    """Whoever gave data is not told to give data; the rules are counted as wanting more of it."""
    text = " ".join(str(judged(images(count))).split())
    assert "need more samples (--data)" in text
    assert "only a run on that data" not in text
    assert "your data (--data)" not in text


def test_enough_samples_leave_no_rule_out() -> None:
    """The other side: nothing is said to be missing."""
    text = " ".join(str(judged(images(32))).split())
    assert "need more samples" not in text
    assert "so few samples" not in text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_data_are_named_where_they_hold_nan(value: float) -> None:
    """Not the first layer that they reach; and statistics that are NaN vouch for no layer."""
    x = images(40)
    x[3, 0, 2, 2] = value
    report = judged(x)
    (finding,) = [f for f in report.findings if f.rule == "NC310"]
    assert finding.title == "the data hold NaN or infinity, and so do the outputs"
    assert finding.detail.startswith("1 of 40 samples of ")
    assert finding.layers == ()
    assert "no channel lies off your data" not in str(report)
    assert "\u2713 norm" not in str(report)


@pytest.mark.parametrize("index", [3, 39])
def test_samples_that_hold_nan_leave_no_figure(index: int) -> None:
    """Also behind the few that the mechanics see; no "inf %" where a number should be."""
    x = images(40)
    x[index] = torch.nan
    report = judged(x)
    assert [f.rule for f in report.findings if f.severity.rank] == ["NC310"]
    text = str(report)
    assert "inf %" not in text
    assert "infinity standard deviations" not in text
    assert "scatter outputs by" not in text
    assert "scatter outputs by" in str(judged(images(40)))


class OneLost(Net):
    """Gives NaN for bright samples, which the first ones are not."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / (x.amax((1, 2, 3)) < 90)[:, None]


def test_outputs_of_all_samples_are_looked_at() -> None:
    """One of them is enough, and the data are not blamed."""
    x = images(40)
    x[37, 0, 0, 0] = 100.0
    (finding,) = [f for f in judged(x, OneLost).findings if f.rule == "NC310"]
    assert finding.title == "eval mode gives NaN or infinity"
    assert finding.detail.startswith("2.5 % of the output values")


def test_an_operator_is_named_where_the_data_are_finite() -> None:
    """The model makes the NaN."""
    (finding,) = [f for f in judged(images(40), Logarithm).findings if f.rule == "NC310"]
    assert finding.title == "eval mode gives NaN or infinity"
    assert "log" in finding.detail


def test_masks_of_minus_infinity_are_no_fault() -> None:
    """Attention is told so what to leave out; NaN and plus infinity count, once a sample."""
    mask = torch.zeros(4, 5)
    mask[0, 1:] = -torch.inf
    assert Batch((torch.ones(4, 5), mask)).not_finite == 0
    mask[1, 2:], mask[3, 0] = torch.nan, torch.inf
    assert Batch((torch.ones(4, 5),), {"mask": mask}).not_finite == 2


def test_finite_data_vouch() -> None:
    """The mark stands where data of the training's kind were given."""
    report = judged(images(64))
    assert "NC310" not in {f.rule for f in report.findings}
    assert "\u2713 norm" in str(report)
