"""An operator's flag says its mode; a counter that was left behind says nothing."""

from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck import scan
from normcheck.config.examination import Examination
from normcheck.findings import Finding
from normcheck.live.run_request import Feeding, Running

pytestmark = pytest.mark.filterwarnings("ignore")

EXAMPLE = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
_TRAINING = 5
"""Place of the flag among the arguments of ``aten.batch_norm``."""


def _model() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 4, 3, bias=False), nn.BatchNorm2d(4),
    )  # fmt: skip
    for _ in range(60):
        model(torch.randn(8, 3, 8, 8) * 1.5 + 0.3)
    return model.train()


def _program(path: Path, *, to_eval: tuple[int, ...], decomposed: bool = False) -> Path:
    """A program of train mode in which some of the batch norms were moved to eval mode."""
    module = torch.export.export(_model(), (EXAMPLE,)).module()
    norms = [node for node in module.graph.nodes if "batch_norm" in str(node.target)]
    for index in to_eval:
        norms[index].args = (*norms[index].args[:_TRAINING], False,
                             *norms[index].args[_TRAINING + 1 :])  # fmt: skip
    module.recompile()
    program = torch.export.export(module, (EXAMPLE,))
    if decomposed:
        program = program.run_decompositions()
    torch.export.save(program, path)
    return path


def _found(path: Path) -> dict[str, Finding]:
    report = scan(path)
    assert not report.errors, report.errors
    return {f.discriminator: f for f in report.findings if f.rule == "NC204"}


@pytest.mark.parametrize("decomposed", [False, True])
def test_a_counter_in_eval_mode_is_a_note(decomposed: bool, tmp_path: Path) -> None:
    found = _found(_program(tmp_path / "eval.pt2", to_eval=(0, 1), decomposed=decomposed))
    assert list(found) == ["counting"]
    assert found["counting"].severity.value == "info"
    assert found["counting"].layers == ("1", "4")


def test_a_norm_in_train_mode_beside_one_in_eval_mode_is_named(tmp_path: Path) -> None:
    found = _found(_program(tmp_path / "half.pt2", to_eval=(1,)))
    assert found["norms"].layers == ("1",)
    assert found["counting"].layers == ("4",)


@pytest.mark.parametrize("decomposed", [False, True])
def test_a_program_of_train_mode_is_named(decomposed: bool, tmp_path: Path) -> None:
    found = _found(_program(tmp_path / "train.pt2", to_eval=(), decomposed=decomposed))
    assert list(found) == ["norms"]
    assert set(found["norms"].layers) == {"1", "4"}


def test_a_run_does_not_mistake_the_counter_for_a_change_of_the_model(tmp_path: Path) -> None:
    path = _program(tmp_path / "eval.pt2", to_eval=(0, 1))
    running = Running(feeding=Feeding(shapes=("3x8x8",)))
    report = scan(path, Examination(running=running))
    assert not report.errors, report.errors
    assert [f.rule for f in report.findings if f.severity.value != "info"] == []
