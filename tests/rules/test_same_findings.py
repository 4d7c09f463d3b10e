"""The same model as a state dict and as each export has the same findings on its statistics."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck import scan
from tests.formats.exports.models import Residual

pytestmark = pytest.mark.filterwarnings("ignore")

EXAMPLE = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def healthy() -> nn.Module:
    """Trained a little on made-up classes, so that weights and statistics belong together."""
    torch.manual_seed(0)
    model = Residual()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    classes = torch.randn(10, 3, 16, 16)
    for _ in range(60):
        labels = torch.randint(0, 10, (32,))
        images = classes[labels] + torch.randn(32, 3, 16, 16)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model.eval()


def _norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def never_updated(model: nn.Module) -> None:
    for norm in _norms(model):
        norm.reset_running_stats()


def one_reset(model: nn.Module) -> None:
    norm = _norms(model)[2]
    norm.running_mean.zero_()
    norm.running_var.fill_(1)


def not_finite(model: nn.Module) -> None:
    _norms(model)[1].running_var[3] = float("nan")


def negative(model: nn.Module) -> None:
    _norms(model)[1].running_var[3] = -0.5


def foreign(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(5)
    for norm in _norms(model):
        order = torch.randperm(norm.num_features, generator=generator)
        norm.running_mean.copy_(norm.running_mean[order])
        norm.running_var.copy_(norm.running_var[order])


def as_it_is(_model: nn.Module) -> None:
    pass


def _saved(model: nn.Module, path: Path) -> dict[str, Path]:
    paths = {name: path / name for name in ("state.pt", "traced.pt", "scripted.pt", "program.pt2")}
    torch.save(model.state_dict(), paths["state.pt"])
    torch.jit.save(torch.jit.trace(model, EXAMPLE), paths["traced.pt"])
    torch.jit.save(torch.jit.script(model), paths["scripted.pt"])
    torch.export.save(torch.export.export(model, (EXAMPLE,)), paths["program.pt2"])
    return paths


def _statistics(path: Path) -> set[tuple[str, str, tuple[str, ...]]]:
    report = scan(path)
    assert not report.errors
    return {
        (f.rule, f.severity.value, tuple(sorted(f.layers)))
        for f in report.findings
        if f.rule.startswith("NC1")
    }


@pytest.mark.parametrize(
    "damage", [as_it_is, never_updated, one_reset, not_finite, negative, foreign]
)
def test_findings_do_not_depend_on_the_form(
    damage: Callable[[nn.Module], None], healthy: nn.Module, tmp_path: Path
) -> None:
    state = {name: value.clone() for name, value in healthy.state_dict().items()}
    try:
        with torch.no_grad():
            damage(healthy)
        paths = _saved(healthy, tmp_path)
    finally:
        healthy.load_state_dict(state)
    found = {name: _statistics(path) for name, path in paths.items()}
    exports = [found[name] for name in ("traced.pt", "scripted.pt", "program.pt2")]
    assert exports[0] == exports[1] == exports[2]
    if damage is foreign:
        # Which layers are judged depends on the links that a form shows: the rule is the same.
        assert {rule for rule, _, _ in exports[0]} == {"NC108"}
        assert {rule for rule, _, _ in found["state.pt"]} <= {"NC108"}
    else:
        assert exports[0] == found["state.pt"]
    if damage is as_it_is:
        assert not any(severity != "info" for _, severity, _ in exports[0])
    else:
        assert exports[0]
