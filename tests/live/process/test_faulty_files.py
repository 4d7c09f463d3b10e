"""A file whose module torch could not have made: an error of that file, not a bug of ours."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import normcheck
from normcheck.config.examination import Examination
from normcheck.errors import NormcheckError
from normcheck.live.run_request import Feeding, Running
from normcheck.live.watching.sound_modules import check_sound
from normcheck.report.report import Report

from .faulty_modules import CLAIMS, FAULTS, HEALTHY, network

SHAPE = Examination(running=Running(feeding=Feeding(shapes=("3x8x8",))))


def scanned(tmp_path: Path, fault: Any) -> tuple[str, Report]:
    net = network()
    fault(net)
    path = tmp_path / "model.pt"
    torch.save(net, path)
    return str(path), normcheck.scan(path, SHAPE)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_the_files(name: str, tmp_path: Path) -> None:
    """Named with the file and a hint; what the file tells without a run is told all the same."""
    fault, said = FAULTS[name]
    path, report = scanned(tmp_path, fault)
    (error,) = report.errors
    assert error.message.startswith(f"{path}: not run: ")
    assert said in error.message
    assert error.hint
    assert "bug in normcheck" not in error.hint
    assert len(report.models) == 1


@pytest.mark.parametrize("name", HEALTHY)
def test_what_is_odd_runs(name: str, tmp_path: Path) -> None:
    """Attributes that torch and its users do have are no faults."""
    _, report = scanned(tmp_path, HEALTHY[name])
    assert report.errors == ()
    assert report.models[0].run is not None


@pytest.mark.parametrize("name", CLAIMS)
def test_a_file_does_not_say_how_it_is_probed(name: str, tmp_path: Path) -> None:
    """A norm that refuses eval mode is found, whatever the module claims to be."""

    def claim(net: nn.Sequential) -> None:
        vars(net)[name] = CLAIMS[name]
        net[1].momentum = 0.5

    _, report = scanned(tmp_path, claim)
    _, plain = scanned(tmp_path, lambda net: setattr(net[1], "momentum", 0.5))
    assert report.errors == ()
    run, expected = report.models[0].run, plain.models[0].run
    assert run is not None
    assert expected is not None
    assert (run.forwards, run.fed) == (expected.forwards, expected.fed)


def test_live_modules_too() -> None:
    """A module that holds itself is refused before anything goes down into it."""
    net = network()
    net[3]._modules["loop"] = net
    report = normcheck.scan(net)
    assert "holds itself" in report.errors[0].message
    with pytest.raises(NormcheckError, match="holds itself"):
        normcheck.recalibrate(net, torch.randn(4, 3, 8, 8))


def test_a_method_that_is_replaced_by_another() -> None:
    """Libraries wrap ``forward`` of single modules: what can be called is no fault."""
    net = network()
    original = net.forward
    net.forward = functools.partial(original)  # type: ignore[method-assign]
    check_sound(net)


def test_whose_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What breaks in our own lines is still called a bug; what breaks in torch is not."""
    from normcheck.live.process import run_saved

    def broken(*_args: object) -> None:
        raise ZeroDivisionError("in a test")

    monkeypatch.setattr(run_saved, "check_sound", broken)
    _, report = scanned(tmp_path, lambda _net: None)
    assert "in the model's code or in torch" in report.errors[0].message
    monkeypatch.setattr(run_saved, "check_sound", lambda _module: None)
    monkeypatch.setattr(run_saved, "run", None)
    _, report = scanned(tmp_path, lambda _net: None)
    assert "bug in normcheck" in report.errors[0].hint
