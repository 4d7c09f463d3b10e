"""Notes on forwards that somebody replaced."""

import types

import pytest
import torch
from torch import Tensor, nn

import normcheck
from normcheck.live.watching.replaced_forwards import replaced_forwards


def model() -> nn.Sequential:
    """A few modules."""
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU()).eval()


def twice(self: nn.ReLU, x: Tensor) -> Tensor:
    """Another forward."""
    return torch.relu(x) * 2


class Own(nn.ReLU):
    """A class that overrides a forward, as classes do."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


def test_a_forward_on_the_module_is_noted() -> None:
    """In the report of a run, with where it is."""
    patched = model()
    patched[2].forward = types.MethodType(twice, patched[2])  # type: ignore[method-assign]
    note = replaced_forwards(patched)
    assert "1 module with a forward set on the module: layer 2" in note
    report = normcheck.scan(patched, data=torch.randn(64, 4))
    run = report.models[0].run
    assert run is not None
    assert note in run.notes


def test_a_patched_class_of_torch_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every module of it."""
    monkeypatch.setattr(nn.ReLU, "forward", twice)
    assert "of torch.nn whose class got another forward: layer 2" in replaced_forwards(model())


def test_what_classes_define_is_no_news() -> None:
    """Subclasses, traced and scripted modules, parametrizations, and modules as they come."""
    plain = model()
    assert replaced_forwards(plain) == ""
    assert replaced_forwards(nn.Sequential(Own())) == ""
    assert replaced_forwards(torch.fx.symbolic_trace(plain)) == ""
    assert replaced_forwards(torch.jit.script(plain)) == ""
    weighted = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
    assert replaced_forwards(weighted) == ""
