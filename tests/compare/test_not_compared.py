"""What nothing was held against is said, and then no check mark stands before the line."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck import diff
from normcheck.report.diff_report import Diff
from normcheck.report.machines.diff_json import render_diff_json
from normcheck.report.people.diff_text import render_diff_text
from normcheck.report.people.text_style import TextStyle
from tests.formats.onnx import onnx_by_hand as by_hand

onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.filterwarnings("ignore")


def _text(result: Diff) -> str:
    return " ".join(render_diff_text(result, TextStyle(width=100, color=False)).split())


def _exported(folder: Path, *, without_tensors: bool) -> Path:
    """A batch norm, and behind it an instance norm without γ and β, as an exporter writes them."""
    nodes = [by_hand.norm("h")]
    stored = by_hand.weights()
    for tensor, name in zip(stored, ("weight", "bias", "running_mean", "running_var"), strict=True):
        tensor.name = f"norm.{name}"
    nodes[0].input[1:] = [tensor.name for tensor in stored]
    if without_tensors:
        ones, zeros = (
            onnx.numpy_helper.from_array(torch.full((2,), value).numpy(), name)
            for value, name in ((1.0, "onnx::one_1"), (0.0, "onnx::zero_2"))
        )
        stored += [ones, zeros]
        nodes.append(
            onnx.helper.make_node(
                "InstanceNormalization", ["h", ones.name, zeros.name], ["y"], "/plain/Instance"
            )
        )
    else:
        nodes.append(onnx.helper.make_node("Relu", ["h"], ["y"], "/Relu"))
    return by_hand.written(by_hand.model(nodes, stored), folder / "model.onnx")


def _state(folder: Path) -> Path:
    numbers = {t.name: torch.tensor(onnx.numpy_helper.to_array(t)) for t in by_hand.weights()}
    names = ("weight", "bias", "running_mean", "running_var")
    state = {f"norm.{n}": v for n, v in zip(names, numbers.values(), strict=True)}
    torch.save(state, folder / "model.pt")
    return folder / "model.pt"


def test_a_norm_that_the_source_does_not_show(tmp_path: Path) -> None:
    """A state dict holds nothing of a norm without tensors."""
    whole = diff([_state(tmp_path), _exported(tmp_path, without_tensors=False)])
    assert "✓ The export holds 1 norm with the same numbers." in _text(whole)
    more = diff([_state(tmp_path), _exported(tmp_path, without_tensors=True)])
    assert "✓" not in _text(more)
    assert "1 norm has no counterpart: not compared" in _text(more)
    assert not more.findings
    match = more.comparisons[0].match
    assert match is not None
    assert match.not_compared == match.only_in_export == ("plain",)


def test_equal_state_dicts_say_what_they_do_not_hold(tmp_path: Path) -> None:
    state = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).state_dict()
    torch.save(state, tmp_path / "a.pt")
    torch.save(state, tmp_path / "b.pt")
    state["0.weight"] = state["0.weight"] + torch.rand(4, 3, 3, 3)
    torch.save(state, tmp_path / "c.pt")
    note = "eps, groups, strides and activations are not in a state dict: not compared"
    assert note in _text(diff([tmp_path / "a.pt", tmp_path / "b.pt"]))
    assert note not in _text(diff([tmp_path / "a.pt", tmp_path / "c.pt"]))


def test_json_holds_hyperparameters_and_operations(tmp_path: Path) -> None:
    torch.manual_seed(0)
    old = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(4, 8), nn.Linear(4, 4))
    new = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Linear(4, 4))
    with torch.no_grad():
        old[1].weight.uniform_(0.5, 1.5)
        new.load_state_dict(old.state_dict())
        new[1].weight += 2
        new[2].weight.copy_(old[2].weight.T)
    torch.save(old.eval(), tmp_path / "old.pt")
    torch.save(new.eval(), tmp_path / "new.pt")
    result = diff([tmp_path / "old.pt", tmp_path / "new.pt"])
    (entry,) = json.loads(render_diff_json(result))["comparisons"]
    assert entry["hyperparameters"] == [{"path": "1", "name": "num_groups", "old": "4", "new": "2"}]
    (layer,) = entry["total"]["layers"]
    assert layer["transformed"] == [
        {"name": "weight", "operation": "shift", "text": "moved by exactly +2", "constant": 2.0}
    ]
    (turned,) = entry["total"]["transformed"]
    assert (turned["name"], turned["operation"]) == ("2.weight", "transposition")
