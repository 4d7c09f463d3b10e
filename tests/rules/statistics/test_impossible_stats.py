"""NC113: values that no training writes, by name; and what looks like them and is healthy."""

import numpy as np
import pytest

from normcheck.findings import Severity
from tests.rules.layers import (
    CHANNELS,
    MEANS,
    VARIANCES,
    batch_norm,
    constant,
    count,
    judge,
    only,
    reset_norm,
    values,
)

RULE = "impossible-stats"
ZERO, ONE = constant(0.0), constant(1.0)
BITS = np.arange(1, CHANNELS + 1, dtype=np.uint32) * 123_457
MEMORY = values(BITS.view(np.float32))


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"running_mean": ZERO}, "means zero"),
        ({"running_var": ONE}, "variances one"),
        ({"running_var": ONE, "batches": None}, "variances one"),
        ({"running_mean": MEMORY, "running_var": MEMORY}, "memory"),
        ({"running_mean": ZERO, "running_var": ZERO}, "never filled"),
        (
            {"running_mean": ZERO, "running_var": ZERO, "weight": ZERO, "bias": ZERO},
            "no values",
        ),
    ],
)
def test_each_slip_has_its_name(changes: dict[str, object], key: str) -> None:
    """One finding, which lists the layers that show it."""
    found = only(judge(RULE, batch_norm("bn1", **changes), batch_norm("bn2", **changes)))
    assert found.discriminator == key
    assert found.severity is Severity.ERROR
    assert found.layers == ("bn1", "bn2")


def test_single_layers_are_named_among_healthy_ones() -> None:
    """Exact values need no majority."""
    found = only(judge(RULE, batch_norm("bn1"), batch_norm("bn2", running_mean=ZERO)))
    assert found.layers == ("bn2",)


def test_an_uncounted_layer_of_zeros_beside_counted_ones() -> None:
    """It never ran, and does not even hold its initial values."""
    empty = batch_norm("bn2", running_mean=ZERO, running_var=ZERO, batches=count(0))
    found = only(judge(RULE, batch_norm("bn1"), empty, batch_norm("bn3")))
    assert (found.discriminator, found.layers) == ("never filled", ("bn2",))


@pytest.mark.parametrize(
    "layer",
    [
        reset_norm("bn2"),
        batch_norm("bn2", running_mean=ZERO, batches=None),
        batch_norm("bn2", running_mean=ZERO, running_var=ZERO),
        batch_norm("bn2", running_mean=ZERO, running_var=ZERO, weight=ZERO, batches=count(0)),
        batch_norm("bn2", running_var=values([5.6e-45] * CHANNELS)),
        batch_norm("bn2", running_var=values([0.0, *VARIANCES[1:]])),
        batch_norm("bn2", running_mean=values([0.0, *MEANS[1:]])),
        batch_norm("bn2", features=3, running_mean=constant(0.0, 3), running_var=values([1, 2, 3])),
        batch_norm("bn2", running_var=values([float("nan")] * CHANNELS)),
    ],
    ids=[
        "initial", "does not centre, no count", "one dead layer", "pruned", "denormal and dead",
        "one dead channel", "one mean of zero", "three channels", "not finite",
    ],
)  # fmt: skip
def test_look_alikes(layer: object) -> None:
    """Each has another reading, and most another rule."""
    assert judge(RULE, batch_norm("bn1"), layer, batch_norm("bn3")) == []
