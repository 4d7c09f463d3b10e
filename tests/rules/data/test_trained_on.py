"""What labels decide of statistics that stood still while weights were trained on."""

import pytest

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.live.hits import Answers
from normcheck.live.measurement import AgainstData, Regime
from normcheck.rules.data_verdict import judged
from normcheck.rules.harm import Harm
from normcheck.rules.settled_by_run import decided

SAMPLES = 256


def measured(harmed: int, loss_t: float) -> AgainstData:
    """A run in which re-estimated statistics make so many answers wrong, and none right."""
    return AgainstData(
        drifts=(),
        regimes=(
            Regime("eval", 0.0, 0.0, 0.95, 0.13, SAMPLES),
            Regime("re-estimated", 0.8, 0.06, 0.95 - harmed / SAMPLES, 0.92, SAMPLES),
        ),
        effect=2.0, healed=0, harmed=harmed, train_healed=None, train_harmed=None, loss_t=loss_t,
        decisiveness=None, closings=(), noise=(), residual=0.0, domains=None,
        calibrated_t=loss_t, expected_gain=0.0, answers=Answers(243, SAMPLES, 0.1, 10),
        given_answers=Answers(243 - harmed, SAMPLES, 0.1, 10),
    )  # fmt: skip


def few_batches(*evidence: Evidence) -> Finding:
    """What the file alone says of a count."""
    return Finding(
        rule="NC103", name="under-warmed-stats", severity=Severity.ERROR,
        confidence=Confidence.MEDIUM, title="4 layers saw too few batches", detail="12 % is left.",
        consequence="Outputs are scaled.", fix="re-estimate", layers=("a", "b"), evidence=evidence,
    )  # fmt: skip


@pytest.mark.parametrize(("harmed", "loss_t"), [(40, -20.0), (0, -20.0)])
def test_few_batches_that_the_weights_were_trained_for(harmed: int, loss_t: float) -> None:
    """By answers or by losses: a warning of training in eval mode, and no repair."""
    verdict = judged(measured(harmed, loss_t), labelled=True)
    assert verdict.harm is Harm.STORED_RIGHT
    found = decided(
        few_batches(Evidence("num_batches_tracked", 20)), verdict, labelled=True, enough=True
    )
    assert found.severity is Severity.WARNING
    assert found.title == "training went on in eval mode after 20 batches"
    assert "model.train()" in found.fix
    assert "re-estimate" not in found.fix


def test_few_batches_that_make_no_difference() -> None:
    """Nothing is right about them, and nothing wrong."""
    verdict = judged(measured(0, -1.0), labelled=True)
    found = decided(
        few_batches(Evidence("num_batches_tracked", 20)), verdict, labelled=True, enough=True
    )
    assert found.severity is Severity.INFO
    assert "saw too few" in found.title


def test_losses_are_said_where_they_decide() -> None:
    """No verdict stands on numbers that are not shown."""
    assert "The loss is" in judged(measured(0, -20.0), labelled=True).text
    assert "The loss is" not in judged(measured(0, -1.0), labelled=True).text
