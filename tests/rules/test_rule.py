"""What rules share: which layers they look at, trust in a count."""

import numpy as np
import pytest

from normcheck.findings import Confidence, Severity
from normcheck.norms.layer import Momentum, NormLayer
from normcheck.rules.catalogue import find
from normcheck.rules.rule import (
    DEFAULT_MOMENTUM,
    Subject,
    assumed_momentum,
    count_is_trusted,
)
from tests.rules.layers import (
    CHANNELS,
    batch_norm,
    constant,
    count,
    frozen_norm,
    kind,
    model,
    module_norm,
    plain_norm,
    values,
)

TINY = constant(1e-6)


def subject(*layers: NormLayer, steps: int | None = None) -> Subject:
    return Subject(model(*layers), optimizer_steps=steps)


def test_layers_that_collect_statistics() -> None:
    """Every BatchNorm, and InstanceNorms and custom norms that have statistics; no frozen one."""
    layers = [
        batch_norm("batch"),
        batch_norm("untracked", running_mean=None, running_var=None),
        batch_norm("tracking", kind=kind("tracking InstanceNorm")),
        batch_norm("own", kind=kind("custom norm")),
        plain_norm("instance", "InstanceNorm2d"),
        plain_norm("plain own", "custom norm"),
        plain_norm("layer"),
        frozen_norm("frozen"),
    ]
    found = [n.path for n in subject(*layers).batch_norms()]
    assert found == ["batch", "untracked", "tracking", "own"]
    stored = [n.path for n in subject(*layers).with_statistics()]
    assert stored == ["batch", "tracking", "own", "frozen"]


def test_momentum_is_assumed_where_unknown() -> None:
    """The default of torch, marked as assumed; a known one as it is."""
    assert assumed_momentum(batch_norm()) == (DEFAULT_MOMENTUM, False)
    assert assumed_momentum(module_norm(momentum=0.01)) == (0.01, True)
    cumulative = module_norm(momentum=Momentum.CUMULATIVE)
    assert assumed_momentum(cumulative) == (Momentum.CUMULATIVE, True)


def test_a_variance_below_the_bound_breaks_the_trust() -> None:
    """One channel of one layer is enough."""
    below = [1.0] * (CHANNELS - 1) + [0.5]
    assert count_is_trusted([batch_norm(running_var=constant(0.9), batches=count(1))])
    proof = batch_norm(running_var=values(below), batches=count(1))
    assert not count_is_trusted([batch_norm(), proof])


@pytest.mark.parametrize(
    "layer",
    [
        batch_norm(running_var=None, batches=count(1)),
        batch_norm(running_var=TINY, batches=None),
        batch_norm(running_var=TINY, batches=count(1.0, "float32")),
        batch_norm(running_var=TINY, batches=count(-1)),
        batch_norm(running_var=values([]), batches=count(1)),
        module_norm(running_var=TINY, batches=count(1), momentum=Momentum.CUMULATIVE),
        module_norm(running_var=TINY, batches=count(1), momentum=0.0),
        module_norm(running_var=TINY, batches=count(1), momentum=1.0),
        module_norm(running_var=TINY, batches=count(2), momentum=2.0),
    ],
    ids=["no variance", "no count", "float", "negative", "empty", "average", "0", "1", "above 1"],
)
def test_layers_that_prove_nothing(layer: NormLayer) -> None:
    """Without a variance, a count and a momentum between 0 and 1 there is no bound."""
    assert count_is_trusted([layer, batch_norm()])


@pytest.mark.parametrize(
    ("dtype", "share", "trusted"),
    [
        ("float32", 0.99995, True),
        ("float32", 0.9997, False),
        ("float64", 0.9997, False),
        ("float16", 0.995, True),
        ("bfloat16", 0.995, True),
        ("float16", 0.98, False),
    ],
)
def test_slack_for_rounding(dtype: str, share: float, trusted: bool) -> None:
    """A ten-thousandth in float32, one percent in half precision."""
    variance = values(np.full(CHANNELS, share * 0.9**3), dtype)
    layer = batch_norm(running_var=variance, batches=count(3))
    assert count_is_trusted([layer]) is trusted


def test_findings_carry_the_rules_code_and_the_layers_paths() -> None:
    """A rule's findings take code and name from it, and layers or paths alike."""
    words = {"title": "t", "detail": "d", "consequence": "c", "fix": "f"}
    rule = find("NC101")
    finding = rule.finding(**words, layers=[batch_norm("a.bn"), "b.bn"])
    assert (finding.rule, finding.name) == ("NC101", "never-updated-stats")
    assert finding.layers == ("a.bn", "b.bn")
    assert (finding.severity, finding.confidence) == (rule.severity, Confidence.HIGH)
    assert finding.message == "t: a.bn, b.bn"
    mild = rule.finding(**words, severity=Severity.INFO)
    assert (mild.severity, mild.message) == (Severity.INFO, "t")
