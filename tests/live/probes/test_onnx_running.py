"""ONNX files run in ONNX Runtime: the same probes, and the same findings."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (torch's own convention)

from normcheck import Examination, Report, scan
from normcheck.live.run_request import Feeding, Running
from tests.formats.exports.models import CASES

pytestmark = [pytest.mark.kernels, pytest.mark.filterwarnings("ignore")]

CASE = CASES[0]


def _exported(path: Path, *, training: bool, dynamic: bool) -> Path:
    mode = torch.onnx.TrainingMode.TRAINING if training else torch.onnx.TrainingMode.EVAL
    torch.onnx.export(
        CASE.model(training=training),
        (CASE.example,),
        str(path),
        dynamo=False,
        training=mode,
        input_names=["x"],
        dynamic_axes={"x": {0: "batch"}} if dynamic else None,
    )
    return path


def _run(path: Path, **feeding: object) -> Report:
    report = scan(path, Examination(running=Running(feeding=Feeding(**feeding))))  # type: ignore[arg-type]
    assert not report.errors
    assert report.models[0].run is not None
    return report


@pytest.mark.parametrize("dynamic", [True, False])
def test_eval_mode_is_not_accused(dynamic: bool, tmp_path: Path) -> None:
    report = _run(_exported(tmp_path / "model.onnx", training=False, dynamic=dynamic))
    assert not [f for f in report.findings if f.severity.value != "info"]


@pytest.mark.parametrize("dynamic", [True, False])
def test_training_mode_is_measured(dynamic: bool, tmp_path: Path) -> None:
    path = _exported(tmp_path / "model.onnx", training=True, dynamic=dynamic)
    (found,) = [f for f in _run(path).findings if f.severity.value != "info"]
    assert found.rule == "NC204"
    assert found.severity.value == "error"
    assert "Two forwards of the same batch differ by" in found.detail


def test_data_of_the_user_are_fed(tmp_path: Path) -> None:
    path = _exported(tmp_path / "model.onnx", training=False, dynamic=True)
    data = torch.randn(9, 3, 8, 8)
    report = _run(path, data=data)
    run = report.models[0].run
    assert run is not None
    assert run.fed.samples == 9
    assert [regime.name for regime in run.regimes] == ["eval"]


class _Between(nn.Module):
    """Dropout between two layers, in whatever mode."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 64), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.dropout(torch.relu(self.first(x)), 0.5, training=True))


class _Last(_Between):
    """Dropout as the last operator."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.second(torch.relu(self.first(x))), 0.5, training=True)


@pytest.mark.parametrize(
    ("model", "severity", "said"),
    [
        (_Between, "warning", "optimisations, which take out a dropout between two operators)"),
        (_Last, "error", "as ONNX Runtime deploys it (default optimisations)."),
    ],
)
def test_a_dropout_is_measured_as_it_stands_and_as_it_is_deployed(
    model: type[nn.Module], severity: str, said: str, tmp_path: Path
) -> None:
    torch.onnx.export(model().eval(), (torch.randn(4, 6),), str(tmp_path / "m.onnx"), dynamo=False)
    report = _run(tmp_path / "m.onnx")
    (found,) = [f for f in report.findings if f.severity.value != "info"]
    assert (found.rule, found.severity.value) == ("NC204", severity)
    assert said in found.detail
