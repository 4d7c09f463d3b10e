"""What the file accuses and the data acquit: statistics of another input, or of other code."""

import pytest
import torch
from torch import Tensor, nn

from normcheck.findings import Confidence, Finding, Severity
from normcheck.live.measurement import Run
from normcheck.live.process.run_saved import run_live
from normcheck.live.run_request import Feeding, Running
from normcheck.rules.settled_by_run import settled
from sample_models.data import load
from sample_models.networks import DigitsNet
from tests.conftest import SAMPLES

pytestmark = [pytest.mark.slow, pytest.mark.kernels]
COUNT = 256


def network(name: str) -> nn.Module:
    model = DigitsNet()
    model.load_state_dict(torch.load(SAMPLES / f"{name}.pt", weights_only=True))
    return model.eval()


def ran(name: str, factor: float, *, labelled: bool = True, eps: float | None = None) -> Run:
    """The sample network on digits that are fed ``factor`` times as bright.

    Args:
        name: Of the sample.
        factor: See above.
        labelled: Whether with labels.
        eps: Of all norms, in place of the one that it was trained with.
    """
    _, holdout = load()
    images: Tensor = factor * holdout.inputs["images"][:COUNT]
    data = (images, holdout.labels[:COUNT]) if labelled else images
    model = network(name)
    for module in model.modules():
        if eps is not None and isinstance(module, nn.BatchNorm2d):
            module.eps = eps
    outcome = run_live(model, Running(feeding=Feeding(data=data, samples=COUNT)))
    assert outcome.run is not None
    return outcome.run


def accused(rule: str = "NC108") -> Finding:
    """What the file alone says."""
    return Finding(
        rule=rule, name="foreign-stats", severity=Severity.ERROR, confidence=Confidence.MEDIUM,
        title="5 layers have statistics of other weights", detail="They do not fit.",
        consequence="Predictions are wrong.", fix="re-estimate", layers=("stem.norm",),
    )  # fmt: skip


@pytest.mark.parametrize("factor", [4.0, 0.2, -1.0])
def test_statistics_that_fit_the_input_that_was_meant_are_acquitted(factor: float) -> None:
    """On it all norms fit and the answers are right: no error of the file's."""
    (found,) = settled([accused()], ran("digits-healthy", factor))
    assert found.severity is Severity.INFO
    assert "Your data acquit them" in found.consequence
    assert "preprocessing" in found.fix


@pytest.mark.parametrize("factor", [4.0, 1.0])
def test_statistics_that_fit_no_input_stay_accused(factor: float) -> None:
    """Foreign ones, on the right input and on a wrong one."""
    (found,) = settled([accused()], ran("foreign-statistics", factor))
    assert found.severity is Severity.ERROR
    assert "acquit" not in found.consequence


def test_statistics_that_fit_other_code_are_acquitted() -> None:
    """One report does not say of the same statistics that they are right and to be replaced."""
    run = ran("digits-healthy", 1.0, eps=0.5)
    assert run.against_data is not None
    assert run.against_data.other_code is not None
    (found,) = settled([accused()], run)
    assert found.severity is Severity.INFO
    assert "normcheck fix" not in found.fix
    (other,) = settled([accused("NC103")], run)
    assert "acquit" not in other.consequence


def test_statistics_that_fit_no_code_stay_accused() -> None:
    """Foreign ones, with the same change of the code."""
    (found,) = settled([accused()], ran("foreign-statistics", 1.0, eps=0.5))
    assert found.severity is Severity.ERROR


def test_without_labels_nothing_is_acquitted() -> None:
    """That all norms fit another input is no proof that the answers would be right."""
    (found,) = settled([accused()], ran("digits-healthy", 4.0, labelled=False))
    assert found.severity is Severity.ERROR


def test_the_right_input_acquits_by_its_answers_alone() -> None:
    """No change of the input is named where it fits as it is; that no answer changes is said."""
    (found,) = settled([accused()], ran("digits-healthy", 1.0))
    assert "Your data acquit them" not in found.consequence
    assert found.severity is Severity.INFO


def test_other_rules_are_not_acquitted_by_an_input() -> None:
    """Statistics that never moved say more than that they fit something."""
    (found,) = settled([accused("NC104")], ran("digits-healthy", 4.0))
    assert "acquit" not in found.consequence
