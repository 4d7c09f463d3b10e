"""Foldings are proven on the axis of the outputs, wherever the operator has it."""

from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck import diff
from normcheck.compare.exports.export_match import Fate, NormMatch
from tests.compare.folding import LAYERS, Layer, folded

pytestmark = pytest.mark.filterwarnings("ignore")

AS_MANY = [layer for layer in LAYERS if "transposed, " in layer.name and "as many" in layer.name]
"""Where a folding on axis 0 has a length that fits."""


def _program(model: nn.Module, layer: Layer, path: Path) -> Path:
    torch.export.save(torch.export.export(model, (layer.example,)), path)
    return path


def _sources(model: nn.Module, folder: Path) -> list[Path]:
    torch.save(model.state_dict(), folder / "state.pt")
    torch.save(model, folder / "module.pt")
    return [folder / "state.pt", folder / "module.pt"]


def _norm(source: Path, export: Path) -> NormMatch:
    result = diff([source, export])
    assert not result.report.errors
    assert result.comparisons[0].match is not None
    (norm,) = result.comparisons[0].match.norms
    return norm


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_a_true_folding_is_proven_for_every_layout(layer: Layer, tmp_path: Path) -> None:
    model = layer.model()
    inside = folded(model)
    assert torch.allclose(inside(layer.example), model(layer.example), atol=1e-4)
    export = _program(inside, layer, tmp_path / "folded.pt2")
    for source in _sources(model, tmp_path):
        norm = _norm(source, export)
        assert norm.fate is Fate.FOLDED
        assert 0 <= norm.deviation < 1e-5


@pytest.mark.parametrize("layer", AS_MANY, ids=lambda layer: layer.name)
def test_a_folding_on_the_inputs_of_a_transposed_convolution_is_an_error(
    layer: Layer, tmp_path: Path
) -> None:
    """Converters that fold on axis 0 scale the inputs, not the outputs."""
    model = layer.model()
    export = _program(folded(model, axis_zero=True), layer, tmp_path / "wrong.pt2")
    for source in _sources(model, tmp_path):
        assert _norm(source, export).fate is Fate.FOLDED_OTHERWISE


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_another_scale_is_an_error_for_every_layout(layer: Layer, tmp_path: Path) -> None:
    model = layer.model()
    wrong = folded(model)
    with torch.no_grad():
        wrong[0].weight *= 1.07
    export = _program(wrong, layer, tmp_path / "wrong.pt2")
    for source in _sources(model, tmp_path):
        assert _norm(source, export).fate is Fate.FOLDED_OTHERWISE


@pytest.mark.parametrize("turned", [False, True])
def test_a_matrix_product_of_onnx_is_proven_either_way_round(turned: bool, tmp_path: Path) -> None:
    """``Gemm`` with and without ``transB``, and ``MatMul`` with an add behind it."""
    onnx = pytest.importorskip("onnx")
    layer = LAYERS[0]
    model = layer.model()
    inside = folded(model)
    weight = inside[0].weight.detach().numpy()
    bias = inside[0].bias.detach().numpy()
    stored = weight if turned else weight.T.copy()
    helper, numbers = onnx.helper, onnx.numpy_helper
    products = {
        "gemm": [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=int(turned))],
        "matmul": [helper.make_node("MatMul", ["x", "w"], ["p"]),
                   helper.make_node("Add", ["p", "b"], ["y"])],
    }  # fmt: skip
    if turned:
        del products["matmul"]
    for name, nodes in products.items():
        graph = helper.make_graph(
            nodes, "g",
            [helper.make_tensor_value_info("x", 1, [None, 6])],
            [helper.make_tensor_value_info("y", 1, [None, 8])],
            [numbers.from_array(stored, "w"), numbers.from_array(bias, "b")],
        )  # fmt: skip
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
        onnx.save(made, tmp_path / f"{name}.onnx")
        for source in _sources(model, tmp_path):
            assert _norm(source, tmp_path / f"{name}.onnx").fate is Fate.FOLDED
