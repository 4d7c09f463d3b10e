"""Forwards on made-up input: every sick model is named with its layer, no look-alike is accused."""

import pytest
import torch
from torch import nn

from normcheck import Examination, Report, scan
from normcheck.findings import Severity
from normcheck.live.run_request import Feeding, Running
from tests.live.probes import lookalikes, sick

pytestmark = pytest.mark.kernels

_ABOUT_STATE = {"NC101", "NC201", "NC504"}
"""What is true of every freshly made model, and not what these tests are about."""


def scanned(model: nn.Module, shapes: tuple[str, ...]) -> Report:
    torch.manual_seed(0)
    return scan(model, Examination(running=Running(feeding=Feeding(shapes=shapes))))


@pytest.mark.parametrize("name", sick.CASES)
def test_sick_model_is_named_with_its_layer(name: str) -> None:
    """The rule that fits speaks, and names the layer; nothing else accuses the model."""
    case = sick.CASES[name]
    torch.manual_seed(0)
    report = scanned(case.build(), case.shapes)
    assert report.errors == ()
    findings = {f.rule: f for f in report.findings if f.rule not in _ABOUT_STATE}
    assert case.rule in findings
    assert set(case.layers) <= set(findings[case.rule].layers)
    loud = {rule for rule, f in findings.items() if f.severity is not Severity.INFO}
    assert loud <= {case.rule}


@pytest.mark.parametrize("name", lookalikes.CASES)
def test_look_alike_is_not_accused(name: str) -> None:
    """Nothing of warning or above, and no info on behaviour, is said of a healthy model."""
    build, shapes = lookalikes.CASES[name]
    torch.manual_seed(0)
    report = scanned(build(), shapes)
    assert report.errors == ()
    said = {f.rule for f in report.findings} - _ABOUT_STATE
    loud = {f.rule for f in report.findings if f.severity is not Severity.INFO}
    assert loud == set()
    assert not said & {"NC203", "NC301", "NC302", "NC303", "NC306", "NC309", "NC310", "NC311"}


def test_there_are_enough_of_both() -> None:
    """The suite is as large as it claims to be."""
    assert len(sick.CASES) >= 40
    assert len(lookalikes.CASES) >= 25
