"""Decisions on smooth random images: an info where hardly any stays, silence elsewhere."""

import subprocess
from collections.abc import Callable

import pytest
import torch
from torch import nn

import normcheck
from normcheck.findings import Severity
from normcheck.live.fields.decisions import decided_on_fields
from normcheck.live.watching.forward import Forward
from normcheck.live.watching.reachable_modules import reachable
from normcheck.live.watching.regimes import Regimes
from normcheck.report.report import Report
from sample_models.networks import DigitsNet, mlp_batchnorm
from tests.conftest import SAMPLES

pytestmark = pytest.mark.kernels

SHAPE = "1x8x8"


def scanned(name: str, **words: object) -> Report:
    words = {"model": DigitsNet, "input_shape": SHAPE, **words}
    return normcheck.scan(SAMPLES / f"{name}.pt", **words)  # type: ignore[arg-type]


def rules_of(report: Report) -> set[str]:
    assert not report.errors
    return {finding.rule for finding in report.findings}


def test_statistics_of_other_weights_are_told_without_data() -> None:
    """As an info that asks for data; what the file says stands beside it."""
    report = scanned("foreign-statistics")
    (found,) = [f for f in report.findings if f.rule == "NC312"]
    assert found.severity is Severity.INFO
    assert "256 smooth random images (1x8x8)" in found.detail
    assert found.evidence[0].value > 0.8
    assert "NC108" in rules_of(report)


@pytest.mark.parametrize("name", ["digits-healthy", "too-few-batches-mild", "statistics-lost"])
def test_silent_on_health_and_where_other_rules_speak(name: str) -> None:
    """0 and 1 are named by the rules on the file, and may be what the weights were trained with."""
    assert "NC312" not in rules_of(scanned(name))


def test_data_speak_for_themselves() -> None:
    data = str(SAMPLES / "digits.npz")
    report = scanned("foreign-statistics", input_shape=None, data=data)
    assert "NC312" not in rules_of(report)


def test_other_input_is_not_tried() -> None:
    report = scanned("mlp-never-updated", model=mlp_batchnorm, input_shape="20")
    assert "NC312" not in rules_of(report)


def test_nothing_of_the_model_moves() -> None:
    """Statistics are handed to the operators: not even the counts change."""
    model = DigitsNet()
    model.load_state_dict(torch.load(SAMPLES / "foreign-statistics.pt", weights_only=True))
    model.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    regimes = Regimes(Forward(model, torch.device("cpu")), reachable(model), set())
    found = decided_on_fields(regimes, (1, 8, 8), 0)
    assert found is not None
    assert found.changed > 0.8
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert decided_on_fields(regimes, (1, 8, 8), 0) == found


def test_a_healthy_model_is_seen_by_a_few_images() -> None:
    """Where few decisions change nothing more is run."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 2)).eval()
    with torch.no_grad():
        model[5].bias[0] = 9.0  # always the same answer
    forward = Forward(model, torch.device("cpu"))
    found = decided_on_fields(Regimes(forward, reachable(model), set()), (3, 16, 16), 0)
    assert found is not None
    assert (found.changed, found.samples) == (0.0, 16)


def test_a_foreign_file_is_judged_in_a_process_of_its_own(
    command: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """The weights stay in that process; what was found of them is here."""
    words = ("--model", "sample_models.networks:DigitsNet", "--input-shape", SHAPE)
    result = command("scan", "sample_models/foreign-statistics.pt", *words)
    assert result.returncode == 1, result.stderr
    assert "NC108" in result.stdout
    assert "NC312" in result.stdout
