"""A port that calls every layer otherwise: the same numbers are found, others are named."""

from pathlib import Path

import torch
from torch import Tensor, nn

from normcheck import diff
from normcheck.compare.exports.export_match import Fate, WeightFate
from normcheck.report.diff_report import Diff

State = dict[str, Tensor]
NAMES = {"0": "stem.conv", "1": "stem.bn", "3": "body.conv", "4": "body.bn", "8": "classifier"}


def _state() -> State:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip
    with torch.no_grad():
        for index in (1, 4):
            net[index].weight.uniform_(0.5, 1.5)
            net[index].bias.normal_()
        for _ in range(20):
            net(torch.randn(8, 3, 9, 9) * 2 + 1)
    return dict(net.state_dict())


def _called(state: State) -> State:
    return {f"{NAMES[n.partition('.')[0]]}.{n.partition('.')[2]}": t for n, t in state.items()}


def _compared(old: State, new: State, folder: Path) -> Diff:
    torch.save(old, folder / "old.pt")
    torch.save(new, folder / "new.pt")
    result = diff([folder / "old.pt", folder / "new.pt"])
    assert not result.report.errors
    return result


def test_the_same_numbers_under_other_names(tmp_path: Path) -> None:
    result = _compared(_state(), _called(_state()), tmp_path)
    match = result.comparisons[0].match
    assert match is not None
    assert {norm.fate for norm in match.norms} == {Fate.KEPT}
    assert {weight.fate for weight in match.weights} == {WeightFate.SAME}
    assert {weight.name: weight.theirs for weight in match.weights}["8.bias"] == "classifier.bias"
    assert not result.findings


def test_what_is_not_the_same_is_named(tmp_path: Path) -> None:
    other = _state()
    other["3.weight"] = other["3.weight"] + 0.01 * torch.randn(8, 8, 3, 3)
    other["4.running_var"] = other["4.running_var"] * 2
    other["8.bias"] = other["8.bias"] + 1
    result = _compared(_state(), _called(other), tmp_path)
    assert {f.rule for f in result.findings} == {"NC605"}
    assert {layer for f in result.findings for layer in f.layers} == {"3", "4", "8"}


def test_another_training_is_not_called_a_port(tmp_path: Path) -> None:
    other = {
        n: t + 0.05 * torch.randn(t.shape) if t.is_floating_point() else t
        for n, t in _state().items()
    }
    torch.save(_state(), tmp_path / "old.pt")
    torch.save(_called(other), tmp_path / "new.pt")
    result = diff([tmp_path / "old.pt", tmp_path / "new.pt"])
    assert all(comparison.match is None for comparison in result.comparisons)
    assert "NC605" not in {f.rule for f in result.findings}


def test_a_factor_that_nothing_explains_takes_the_check_mark(tmp_path: Path) -> None:
    other = _state()
    other["3.weight"] = other["3.weight"] * 1.1
    result = _compared(_state(), _called(other), tmp_path)
    (comparison,) = result.comparisons
    assert comparison.apart
    assert any("3.weight has a factor for each output" in note for note in comparison.notes)
