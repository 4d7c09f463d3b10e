"""Whatever a file holds, its report does not contradict itself."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from normcheck.findings import Confidence, Finding, Severity
from normcheck.report.certificate import certificate_of
from normcheck.report.report import Report, Standing
from normcheck.rules.statistics.histories import Strength, strength, weighed
from normcheck.runs.scan import scan
from tests.norms.settled import conv_net, settle

BLOCKS = 5
Norm = dict[str, torch.Tensor]


def _swap(norm: Norm, one: str, other: str) -> None:
    norm[one], norm[other] = norm[other].clone(), norm[one].clone()


FAULTS: Mapping[str, Callable[[Norm], object]] = {
    "none": lambda norm: norm,
    "lost": lambda n: (n["running_mean"].zero_(), n["running_var"].fill_(1)),
    "never": lambda n: (
        n["running_mean"].zero_(), n["running_var"].fill_(1), n["num_batches_tracked"].zero_(),
    ),
    "zeroed": lambda n: (n["running_mean"].zero_(), n["running_var"].zero_()),
    "means zero": lambda n: n["running_mean"].zero_(),
    "variances one": lambda n: n["running_var"].fill_(1),
    "few batches": lambda n: n["num_batches_tracked"].fill_(5),
    "initial": lambda n: (
        n["num_batches_tracked"].fill_(7), n["running_mean"].mul_(0.5),
        n["running_var"].mul_(0.5).add_(0.5),
    ),
    "negative": lambda n: n["running_var"].neg_(),
    "swapped": lambda n: _swap(n, "running_mean", "running_var"),
    "bias": lambda n: _swap(n, "running_mean", "bias"),
    "sign": lambda n: n["running_mean"].neg_(),
    "inverse": lambda n: n["running_var"].reciprocal_(),
    "units": lambda n: (n["running_mean"].mul_(3), n["running_var"].mul_(9)),
    "permuted": lambda n: n["running_mean"].copy_(n["running_mean"].roll(5)),
    "nan": lambda n: n["running_mean"][0].fill_(float("nan")),
    "infinite": lambda n: n["running_var"][1].fill_(float("inf")),
}  # fmt: skip


@pytest.fixture(scope="module")
def healthy() -> dict[str, torch.Tensor]:
    """Of five blocks, whose statistics belong to their weights."""
    torch.manual_seed(0)
    return settle(conv_net(nn.ReLU(), blocks=BLOCKS), 3, 16, 16).state_dict()


def _scanned(state: Mapping[str, torch.Tensor], faults: list[str], file: Path) -> Report:
    changed = {name: value.clone() for name, value in state.items()}
    for block, fault in enumerate(faults):
        prefix = f"{3 * block + 1}."
        norm = {k.removeprefix(prefix): v for k, v in changed.items() if k.startswith(prefix)}
        FAULTS[fault](norm)
        changed |= {prefix + leaf: value for leaf, value in norm.items()}
    torch.save(changed, file)
    return scan([file])


alike = st.sampled_from(sorted(FAULTS)).map(lambda fault: [fault] * BLOCKS)
mixed = st.lists(st.sampled_from(sorted(FAULTS)), min_size=BLOCKS, max_size=BLOCKS)
two = st.tuples(st.sampled_from(sorted(FAULTS)), st.sampled_from(sorted(FAULTS))).map(
    lambda pair: [pair[n % 2] for n in range(BLOCKS)]
)


@pytest.mark.slow
@pytest.mark.kernels
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(faults=alike | two | mixed)
def test_a_report_never_contradicts_itself(
    tmp_path: Path, healthy: dict[str, torch.Tensor], faults: list[str]
) -> None:
    """One history a layer, nobody accused is vouched for, no check mark beside a warning."""
    report = _scanned(healthy, faults, tmp_path / "model.pt")
    assert not report.errors
    (model,) = report.models
    stated = [(f, level) for f in report.findings if (level := strength(f)) is not None]
    histories = Counter(
        path
        for finding, level in stated
        if level is not Strength.EXACT and finding.severity is not Severity.INFO
        for path in finding.layers
    )
    assert all(number == 1 for number in histories.values()), histories
    exact = {
        path
        for finding, level in stated
        if level is Strength.EXACT and finding.severity is not Severity.INFO
        for path in finding.layers
    }
    explained = {p for f, level in stated if level is Strength.EXPLAINS for p in f.layers}
    assert not exact & set(histories) - explained
    accused = {p for f, _ in stated if f.severity is not Severity.INFO for p in f.layers}
    standing = {layer.path: layer.standing for layer in model.layers}
    assert all(standing[path] is not Standing.VOUCHED for path in accused)
    if certificate_of(model.layers).earned:
        assert not accused
    if set(faults) == {"none"}:
        assert certificate_of(model.layers).earned
        assert not report.findings


def _said(rule: str, *layers: str, key: str = "", severity: Severity = Severity.ERROR) -> Finding:
    return Finding(
        rule, rule.lower(), severity, Confidence.HIGH, f"{rule} {key}".strip(), "Numbers.", "", "",
        layers=layers, discriminator=key,
    )  # fmt: skip


def test_the_stronger_keeps_the_layers_and_the_weaker_speaks_for_it() -> None:
    """Zeroed means do not fit the weights either: one cause, told by equality."""
    exact = _said("NC113", "a", "b", key="means zero")
    found = weighed([_said("NC108", "a", "b", "c", key="unrelated"), exact])
    assert [(f.rule, f.layers) for f in found] == [("NC113", ("a", "b"))]
    assert found[0].detail == "Numbers. From the same cause: NC108 unrelated."


def test_what_is_mostly_its_own_only_loses_what_is_not() -> None:
    """Two faults in one file stay two findings."""
    found = weighed([_said("NC113", "a"), _said("NC108", "a", "b", "c", key="unrelated")])
    assert [(f.rule, f.layers) for f in found] == [("NC113", ("a",)), ("NC108", ("b", "c"))]


def test_an_exchange_explains_impossible_values() -> None:
    """Means in the place of variances are negative; that they are is no second fault."""
    found = weighed([_said("NC105", "a", "b"), _said("NC108", "a", "b", key="swapped")])
    assert [f.rule for f in found] == ["NC108"]


@pytest.mark.parametrize(
    ("count", "misfit", "rules"),
    [
        (Severity.ERROR, "unrelated", ["NC103"]),
        (Severity.WARNING, "factor", ["NC103"]),
        (Severity.WARNING, "unrelated", ["NC103", "NC108"]),
        (Severity.INFO, "factor", ["NC103", "NC108"]),
    ],
)
def test_a_count_explains_as_much_as_it_leaves(
    count: Severity, misfit: str, rules: list[str]
) -> None:
    """Two hundredths of the initial value make no statistics of other weights."""
    found = weighed([_said("NC103", "a", severity=count), _said("NC108", "a", key=misfit)])
    assert [f.rule for f in found] == rules


def test_other_findings_and_their_order_stay() -> None:
    """What says nothing of statistics' history is nobody's business here."""
    others = [_said("NC504", "a"), _said("NC113", "a"), _said("NC201"), _said("NC106", "a")]
    assert weighed(others) == others
