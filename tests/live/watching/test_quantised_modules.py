"""Modules of torch's eager quantisation, live: read by what their integers stand for, and run."""

import copy
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import normcheck
from normcheck.report.report import Report

quantization = pytest.importorskip("torch.ao.quantization", reason="torch means to move it out")
pytestmark = pytest.mark.filterwarnings("ignore")
ENGINES = torch.backends.quantized.supported_engines
ENGINE = next((e for e in ("fbgemm", "qnnpack") if e in ENGINES), "")
SHAPE = "3x12x12"


class Net(nn.Module):
    """Convolutions and norms between the stubs of quantisation."""

    def __init__(self) -> None:
        super().__init__()
        self.into = quantization.QuantStub()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.ReLU()
        self.conv2 = nn.Conv2d(8, 8, 3)
        self.norm2 = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)
        self.out = quantization.DeQuantStub()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.conv(self.into(x))))
        return self.out(self.head(self.norm2(self.conv2(x)).mean((2, 3))))


@pytest.fixture
def net() -> Iterator[Net]:
    if not ENGINE:
        pytest.skip("no engine for quantised operators")
    before, torch.backends.quantized.engine = torch.backends.quantized.engine, ENGINE
    torch.manual_seed(0)
    model = Net().train()
    with torch.no_grad():
        for _ in range(60):
            model(1 + 2 * torch.randn(16, 3, 12, 12))
    yield model.eval()
    torch.backends.quantized.engine = before


def prepared(net: Net) -> nn.Module:
    """With observers, which saw a batch."""
    model = copy.deepcopy(net)
    model.qconfig = quantization.get_default_qconfig(ENGINE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = quantization.prepare(model)
    model(1 + 2 * torch.randn(8, 3, 12, 12))
    return model


def rules_of(report: Report) -> set[str]:
    assert not report.errors, report.errors
    return {f.rule for f in report.findings}


def test_norms_of_integers_are_read_and_run(net: Net) -> None:
    """Their statistics are those of the model before; their one mode is no mixed one."""
    model = quantization.convert(prepared(net))
    assert type(model.norm).__module__.startswith("torch.ao.nn.quantized")
    for report in (
        normcheck.scan(model, input_shape=SHAPE),
        normcheck.scan(model, data=1 + 2 * torch.randn(64, 3, 12, 12)),
    ):
        assert not rules_of(report) & {"NC101", "NC103", "NC108", "NC201", "NC202", "NC213"}
        assert not [f for f in report.findings if f.severity == "error"]
        layers = {layer.path: layer for layer in report.models[0].layers}
        assert set(layers) == {"norm", "norm2"}
        kept = net.norm.running_mean
        assert kept is not None
        assert layers["norm"].mean is not None
        assert layers["norm"].mean.largest == pytest.approx(float(kept.max()), rel=1e-6)
        assert report.models[0].run is not None


def test_lost_statistics_of_integers_are_found(net: Net) -> None:
    """The same, whose norms hold 0 and 1."""
    for norm in (net.norm, net.norm2):
        norm.reset_running_stats()
        with torch.no_grad():
            norm.weight.uniform_(0.5, 1.5)
    model = quantization.convert(prepared(net))
    found = rules_of(normcheck.scan(model, input_shape=SHAPE))
    assert found & {"NC101", "NC102"}


def test_observers_in_norms_are_called(net: Net) -> None:
    """By a hook that comes with them; a layer of another kind in their place is not."""
    model = prepared(net)
    assert "NC213" not in rules_of(normcheck.scan(model, input_shape=SHAPE))
    model.norm.act = nn.ReLU()
    assert "NC213" in rules_of(normcheck.scan(model, input_shape=SHAPE))


def test_a_state_dict_of_integers_is_read(net: Net) -> None:
    model = quantization.convert(prepared(net))
    report = normcheck.scan(dict(model.state_dict()))
    assert not report.errors
    assert {layer.path for layer in report.models[0].layers} == {"norm", "norm2"}
