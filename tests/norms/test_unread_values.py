"""Norms whose values have a type or layout that is not read: never judged, each with a reason."""

import json
import struct
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from normcheck.report.report import Standing
from tests.verdict import report_on

pytestmark = pytest.mark.filterwarnings("ignore")


def bits(name: str) -> Tensor:
    kind = getattr(torch, name, None)
    if kind is None:
        pytest.skip(f"this torch has no {name}")
    return torch.randint(0, 255, (16,), dtype=torch.uint8).view(kind)


KINDS: dict[str, tuple[Any, str]] = {
    "float4": (lambda: bits("float4_e2m1fn_x2"), "element type float4_e2m1fn_x2"),
    "bits8": (lambda: bits("bits8"), "element type bits8"),
    "bits4x2": (lambda: bits("bits4x2"), "element type bits4x2"),
    "bits1x8": (lambda: bits("bits1x8"), "element type bits1x8"),
    "quantised": (
        lambda: torch.quantize_per_tensor(torch.rand(16), 0.1, 0, torch.quint8),
        "a quantised tensor",
    ),
    "by channel": (
        lambda: torch.quantize_per_channel(
            torch.rand(16), torch.rand(16) + 0.1, torch.zeros(16), 0, torch.qint8
        ),
        "a quantised tensor",
    ),
    "sparse": (lambda: torch.rand(16).to_sparse(), "a sparse tensor"),
    "meta": (lambda: torch.empty(16, device="meta"), "a meta tensor"),
    "complex": (lambda: torch.rand(16).to(torch.complex64), "complex numbers"),
}


@pytest.mark.parametrize("statistic", ["running_mean", "running_var"])
@pytest.mark.parametrize("kind", KINDS)
def test_reason(kind: str, statistic: str, tmp_path: Path) -> None:
    """The layer is listed, and why nothing can be told of it."""
    make, reason = KINDS[kind]
    state = dict(nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16)).state_dict())
    state[f"1.{statistic}"] = make()
    torch.save(state, tmp_path / "m.pt")
    (model,) = report_on(tmp_path / "m.pt").models
    (layer,) = model.layers
    assert layer.standing is not Standing.VOUCHED
    if not layer.rules:
        assert layer.why == f"values not read: {reason}"
    assert kind == "complex" or any(f"1.{statistic}): {reason}" in note for note in model.notes)


def test_safetensors(tmp_path: Path) -> None:
    """Types that the format has and numpy has not."""
    header = {
        "1.running_mean": {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]},
        "1.running_var": {"dtype": "F4", "shape": [8], "data_offsets": [32, 36]},
    }
    text = json.dumps(header).encode()
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(36))
    (model,) = report_on(tmp_path / "m.safetensors").models
    assert "element type 'F4'" in model.layers[0].why


def test_no_elements(tmp_path: Path) -> None:
    """A tensor of none has nothing that could be missing: exporters keep such constants."""
    norm = [helper.make_tensor(n, TensorProto.FLOAT, [2], [1.0, 2.0]) for n in "sbmv"]
    empty = helper.make_tensor("nothing", TensorProto.FLOAT, [0], [])
    graph = helper.make_graph(
        [helper.make_node("BatchNormalization", ["x", *"sbmv"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2, 4, 4])],
        [*norm, empty],
    )
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    torch.save(
        {"bn.running_mean": torch.zeros(0), **nn.BatchNorm1d(4).state_dict()}, tmp_path / "model.pt"
    )
    for name in ("model.onnx", "model.pt"):
        (model,) = report_on(tmp_path / name).models
        assert not [note for note in model.notes if "not readable" in note]
