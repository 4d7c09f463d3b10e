"""Whatever a model's statistics are, every form that it is saved in makes the same statements."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributed import checkpoint as dcp

from normcheck.api.scan import scan
from normcheck.report.report import Report
from normcheck.rules.statistics.histories import Strength, strength
from tests.norms.saved import as_legacy, as_module, as_plain_dict, as_safetensors, as_state_dict
from tests.norms.settled import conv_net, settle
from tests.pipeline.test_one_history import FAULTS

pytestmark = [pytest.mark.slow, pytest.mark.kernels]

BLOCKS = 4
Statement = tuple[str, str, str, tuple[str, ...]]


def as_distributed(model: nn.Module, folder: Path) -> Path:
    """A folder of ``torch.distributed.checkpoint``, written by one process."""
    place = folder / "distributed"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(model.state_dict(), checkpoint_id=place, no_dist=True)
    return place


def in_memory(model: nn.Module, _folder: Path) -> dict[str, Any]:
    """The state dict itself, given to ``normcheck.scan``."""
    return model.state_dict()


def live(model: nn.Module, _folder: Path) -> nn.Module:
    """The module itself."""
    return model


WHOLE: tuple[Callable[[nn.Module, Path], Any], ...] = (as_legacy, as_plain_dict, as_distributed,
                                                       in_memory)  # fmt: skip
"""Forms that hold all that a state dict holds, in its order."""
OTHERS: tuple[Callable[[nn.Module, Path], Any], ...] = (as_safetensors, as_module, live)
"""Those that hold more (classes, momentum) or less (no order): what needs neither is the same."""


def statements(report: Report) -> set[Statement]:
    """What is said of statistics, without the words."""
    return {
        (f.rule, f.discriminator, f.severity.value, f.layers)
        for f in report.findings
        if strength(f) is not None
    }


def exact(report: Report) -> set[tuple[str, str, tuple[str, ...]]]:
    """What the values alone prove."""
    return {
        (f.rule, f.severity.value, f.layers)
        for f in report.findings
        if strength(f) is Strength.EXACT
    }


def unheard(report: Report, other: Report) -> set[tuple[str, str, tuple[str, ...]]]:
    """What the values prove in one report and the other neither says nor explains.

    A cause that is known takes in what follows from it: exchanged means and variances explain
    negative variances, but only where the order of the layers shows the exchange.
    """
    explained = {
        path
        for finding in other.findings
        if strength(finding) is Strength.EXPLAINS
        for path in finding.layers
    }
    return {
        statement
        for statement in exact(report) - exact(other)
        if 2 * len(explained.intersection(statement[2])) <= len(statement[2])
    }


@pytest.fixture(scope="module")
def healthy() -> nn.Module:
    """A network whose statistics belong to its weights."""
    torch.manual_seed(0)
    return settle(conv_net(nn.ReLU(), blocks=BLOCKS), 3, 12, 12)


def _with(model: nn.Module, faults: list[str]) -> nn.Module:
    """A copy with one fault in each block."""
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for block, fault in enumerate(faults):
        prefix = f"{3 * block + 1}."
        norm = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        FAULTS[fault](norm)
        state |= {prefix + leaf: value for leaf, value in norm.items()}
    copy = conv_net(nn.ReLU(), blocks=BLOCKS)
    copy.load_state_dict(state)
    for module in copy.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    return copy.eval()


one = st.sampled_from(sorted(FAULTS))
alike = one.map(lambda fault: [fault] * BLOCKS)
mixed = st.lists(one, min_size=BLOCKS, max_size=BLOCKS)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(faults=alike | mixed)
@example(faults=["swapped"] * BLOCKS)
def test_every_form_makes_the_same_statements(
    tmp_path_factory: pytest.TempPathFactory, healthy: nn.Module, faults: list[str]
) -> None:
    """All forms of a state dict the same; others what the values prove."""
    folder = tmp_path_factory.mktemp("forms")
    model = _with(healthy, faults)
    usual = scan(as_state_dict(model, folder))
    (there,) = usual.models
    standing: Mapping[str, object] = {n.path: n.standing for n in there.layers}
    for form in WHOLE:
        report = scan(form(model, folder))
        assert statements(report) == statements(usual), form.__name__
        (here,) = report.models
        assert {n.path: n.standing for n in here.layers} == standing, form.__name__
    for form in OTHERS:
        report = scan(form(model, folder))
        assert not unheard(usual, report), form.__name__
        assert not unheard(report, usual), form.__name__


def test_a_checkpoint_in_memory_tells_what_its_file_tells(tmp_path: Path) -> None:
    """Optimizer, clocks and copies speak from a mapping, too."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(8, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 24), nn.BatchNorm1d(24)
    )
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(40):
        optimizer.zero_grad()
        model(torch.randn(16, 8)).square().mean().backward()
        optimizer.step()
    model[1].reset_running_stats()
    model[4].reset_running_stats()
    thing = {
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "global_step": 40,
    }
    torch.save(thing, tmp_path / "run.ckpt")
    here, there = (scan(x).findings for x in (thing, tmp_path / "run.ckpt"))
    assert [(f.rule, f.severity, f.detail) for f in here] == [
        (f.rule, f.severity, f.detail) for f in there
    ]
    (lost,) = [f for f in here if f.rule == "NC101"]
    assert "normalised by the batch while training" in lost.detail
