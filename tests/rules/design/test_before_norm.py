"""NC504 and NC505: what stands before a norm."""

import pytest

from normcheck.findings import Confidence, Severity
from tests.rules.layers import batch_norm, evidence, judge, module_norm, only, reset_norm


def test_bias_before_norm() -> None:
    """Each pair in one finding; info, as only parameters are wasted."""
    pairs = (("0.bias", "1"), ("3.bias", "4"))
    found = only(judge("NC504", batch_norm("1"), batch_norm("4"), biases_before_norms=pairs))
    assert (found.severity, found.confidence) == (Severity.INFO, Confidence.MEDIUM)
    assert found.layers == ("1", "4")
    assert found.title == "the bias before 2 norm layers has no effect"
    assert found.detail.startswith("0.bias, 3.bias: ")
    assert evidence(found) == {"biases before norms": 2.0}


def test_norms_that_subtract_nothing_leave_the_bias_its_effect() -> None:
    """One was never updated: the bias before it may have been learned in eval mode."""
    pairs = (("0.bias", "1"), ("3.bias", "4"))
    found = only(judge("NC504", reset_norm("1"), batch_norm("4"), biases_before_norms=pairs))
    assert found.layers == ("4",)
    assert judge("NC504", reset_norm("1"), biases_before_norms=pairs[:1]) == []


def test_module_tree_makes_it_certain() -> None:
    """In a state dict the order is guessed from numbers, in a module tree it is known."""
    found = only(
        judge("NC504", module_norm("1"), modules=True, biases_before_norms=(("0.bias", "1"),))
    )
    assert found.confidence is Confidence.HIGH


@pytest.mark.parametrize(("p", "factor"), [(0.1, "1.1"), (0.5, "2"), (0.9, "10"), (1.0, "1e+02")])
def test_dropout_before_norm(p: float, factor: str) -> None:
    """The variance is too large by 1/(1 - p); info, as many models live with it."""
    pairs = (("1", p, "2"), ("4", 0.05, "5"))
    found = only(judge("NC505", module_norm("2"), module_norm("5"), dropouts_before_norms=pairs))
    assert (found.severity, found.confidence) == (Severity.INFO, Confidence.MEDIUM)
    assert found.layers == ("2", "5")
    assert f"factor of {factor} " in found.consequence
    assert evidence(found) == {"dropout probability": p}


def test_nothing_before_a_norm_is_silent() -> None:
    """No pairs, no findings."""
    assert judge("NC504", batch_norm()) == []
    assert judge("NC505", module_norm()) == []
