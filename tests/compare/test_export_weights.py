"""An export beside its source where exporters left no names, and in what is no norm."""

import copy
from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from normcheck import diff
from normcheck.compare.exports.export_match import ExportMatch, Fate, WeightFate
from normcheck.findings import Finding
from normcheck.report.diff_report import Diff

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

EXAMPLE = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(1))


class Mixed(nn.Module):
    """Two convolutions of one shape with batch norms, group norm, and a transformer's block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.first = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.group = nn.GroupNorm(4, 8)
        self.norm = nn.LayerNorm(8)
        self.up = nn.Linear(8, 24)
        self.down = nn.Linear(24, 8)
        self.last = nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.first(self.stem(x))))
        x = self.group(torch.relu(self.bn2(self.second(x))))
        x = x.mean((2, 3))
        x = x + self.down(torch.relu(self.up(self.norm(x))))
        return self.head(self.last(x))


def built() -> Mixed:
    """Numbers of its own everywhere, in eval mode."""
    torch.manual_seed(3)
    model = Mixed()
    with torch.no_grad():
        for norm in (model.bn1, model.bn2, model.group, model.norm, model.last):
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_()
        for _ in range(20):
            model.train()(torch.randn(8, 3, 9, 9))
    return model.eval()


def _frozen(model: nn.Module, path: Path) -> None:
    torch.jit.save(torch.jit.freeze(torch.jit.trace(model, EXAMPLE)), path.with_suffix(".pt"))


def _program(model: nn.Module, path: Path) -> None:
    torch.export.save(torch.export.export(model, (EXAMPLE,)), path.with_suffix(".pt2"))


def _core_aten(model: nn.Module, path: Path) -> None:
    program = torch.export.export(model, (EXAMPLE,)).run_decompositions()
    torch.export.save(program, path.with_suffix(".pt2"))


def _onnx(model: nn.Module, path: Path) -> None:
    torch.onnx.export(model, (EXAMPLE,), str(path.with_suffix(".onnx")), dynamo=False)


def _optimised(model: nn.Module, path: Path) -> None:
    _onnx(model, path.with_name("plain.onnx"))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path.with_suffix(".onnx"))
    options.log_severity_level = 3
    onnxruntime.InferenceSession(
        str(path.with_name("plain.onnx")), options, providers=["CPUExecutionProvider"]
    )


EXPORTERS: dict[str, Callable[[nn.Module, Path], None]] = {
    "frozen": _frozen, "program": _program, "core-aten": _core_aten, "onnx": _onnx,
    "optimised": _optimised,
}  # fmt: skip


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One export by each exporter, each in a folder of its own."""
    found = {}
    for name, export in EXPORTERS.items():
        folder = tmp_path_factory.mktemp(name)
        export(built(), folder / "model")
        (found[name],) = (file for file in folder.iterdir() if file.stem == "model")
    return found


def _against(source: nn.Module, export: Path, folder: Path, *, state: bool = False) -> Diff:
    path = folder / "source.pt"
    torch.save(source.state_dict() if state else source, path)
    result = diff([path, export])
    assert not result.report.errors
    return result


def _match(result: Diff) -> ExportMatch:
    (comparison,) = result.comparisons
    assert comparison.match is not None
    return comparison.match


def _accusing(result: Diff) -> list[Finding]:
    return [f for f in result.findings if f.severity.value != "info"]


@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("name", EXPORTERS)
def test_a_true_export_holds_every_norm_and_every_weight(
    name: str, state: bool, exports: dict[str, Path], tmp_path: Path
) -> None:
    result = _against(built(), exports[name], tmp_path, state=state)
    match = _match(result)
    assert not result.findings
    assert {norm.fate for norm in match.norms} <= {Fate.KEPT, Fate.FOLDED}
    assert {weight.fate for weight in match.weights} == {WeightFate.SAME}
    # Weights that a norm was folded into are told with the norm.
    told = {weight.name for weight in match.weights}
    assert {"stem.weight", "up.weight", "head.bias"} <= told


@pytest.mark.parametrize("layer", ["stem", "up", "head"])
@pytest.mark.parametrize("name", EXPORTERS)
def test_weights_of_another_epoch_are_named(
    name: str, layer: str, exports: dict[str, Path], tmp_path: Path
) -> None:
    source = built()
    with torch.no_grad():
        weight = source.get_submodule(layer).weight
        weight += 0.1 * weight.std() * torch.randn(weight.shape)
    (found,) = _accusing(_against(source, exports[name], tmp_path))
    assert (found.rule, found.discriminator, found.layers) == ("NC605", "weights", (layer,))
    assert "apart" in found.detail


@pytest.mark.parametrize("layer", ["bn2", "group", "norm"])
@pytest.mark.parametrize("part", ["weight", "bias"])
@pytest.mark.parametrize("name", EXPORTERS)
def test_other_affine_parameters_are_named_whatever_the_exporter_left(
    name: str, part: str, layer: str, exports: dict[str, Path], tmp_path: Path
) -> None:
    source = built()
    with torch.no_grad():
        getattr(source.get_submodule(layer), part).mul_(1.25)
    (found,) = _accusing(_against(source, exports[name], tmp_path))
    assert (found.rule, found.layers) == ("NC605", (layer,))


@pytest.mark.parametrize("name", ["frozen", "onnx", "optimised"])
def test_another_eps_of_a_folded_norm_is_read_from_its_weights(
    name: str, exports: dict[str, Path], tmp_path: Path
) -> None:
    source = built()
    source.bn2.eps = 0.05
    (found,) = _accusing(_against(source, exports[name], tmp_path))
    assert found.layers == ("bn2",)
    assert "as with eps 1e-05, not 0.05" in found.detail


@pytest.mark.parametrize("name", ["frozen", "program", "optimised"])
def test_a_convolution_of_another_dilation_is_named(
    name: str, exports: dict[str, Path], tmp_path: Path
) -> None:
    source = built()
    source.second.dilation = source.second.padding = (2, 2)
    (found,) = _accusing(_against(source, exports[name], tmp_path))
    assert (found.discriminator, found.layers) == ("functions", ("second",))
    assert "dilation (2, 2) → " in found.detail


@pytest.mark.parametrize("name", EXPORTERS)
@pytest.mark.parametrize("layer", ["norm", "bn2", "group"])
def test_a_norm_that_an_export_left_out_is_named(name: str, layer: str, tmp_path: Path) -> None:
    model = copy.deepcopy(built())
    setattr(model, layer, nn.Identity())
    folder = tmp_path / "export"
    folder.mkdir()
    EXPORTERS[name](model, folder / "model")
    (export,) = (file for file in folder.iterdir() if file.stem == "model")
    (found,) = _accusing(_against(built(), export, tmp_path))
    assert found.title == "1 norm layer was dropped by the export"
    assert found.layers == (layer,)


@pytest.mark.parametrize("name", ["program", "core-aten"])
def test_an_export_in_train_mode_is_a_finding_beside_its_source(name: str, tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    EXPORTERS[name](built().train(), tmp_path / "export" / "model")
    (found,) = _accusing(_against(built(), tmp_path / "export" / "model.pt2", tmp_path))
    assert (found.discriminator, found.severity.value) == ("training", "warning")
    assert set(found.layers) == {"bn1", "bn2"}


def _quantised(plain: Path, path: Path) -> None:
    """Weights as 8-bit integers with a scale for each output, as tools for deployment write."""
    model = onnx.load(plain)
    graph = model.graph
    for tensor in list(graph.initializer):
        values = onnx.numpy_helper.to_array(tensor)
        if values.ndim < 2:
            continue
        scale = abs(values.reshape(len(values), -1)).max(axis=1) / 127
        spread = scale.reshape(-1, *[1] * (values.ndim - 1))
        name = tensor.name
        graph.initializer.remove(tensor)
        graph.initializer.extend([
            onnx.numpy_helper.from_array((values / spread).round().astype("int8"), f"{name}_q"),
            onnx.numpy_helper.from_array(scale.astype("float32"), f"{name}_s"),
        ])  # fmt: skip
        graph.node.insert(0, onnx.helper.make_node(
            "DequantizeLinear", [f"{name}_q", f"{name}_s"], [name], f"{name}_dq", axis=0
        ))  # fmt: skip
    onnx.save(model, path)


def test_rounding_to_integers_is_no_difference(exports: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "quantised.onnx"
    _quantised(exports["onnx"], path)
    result = _against(built(), path, tmp_path)
    assert not result.findings
    assert {norm.fate for norm in _match(result).norms} == {Fate.KEPT, Fate.FOLDED}


def test_other_weights_are_told_behind_integers(exports: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "quantised.onnx"
    _quantised(exports["onnx"], path)
    source = built()
    with torch.no_grad():
        source.bn1.running_var *= 2
        source.up.weight += 0.2 * source.up.weight.std() * torch.randn(source.up.weight.shape)
    found = _accusing(_against(source, path, tmp_path))
    assert [(f.discriminator, f.layers) for f in found] == [
        ("numbers", ("bn1",)), ("weights", ("up",)),
    ]  # fmt: skip


def test_what_something_was_folded_into_is_not_called_other_weights(tmp_path: Path) -> None:
    source = built()
    model = copy.deepcopy(source)
    with torch.no_grad():  # γ of the layer norm goes into the linear layer behind it
        model.up.bias += model.up.weight @ model.norm.bias
        model.up.weight *= model.norm.weight
        model.norm = nn.LayerNorm(8, elementwise_affine=False).eval()
    _program(model, tmp_path / "model")
    result = _against(source, tmp_path / "model.pt2", tmp_path, state=True)
    fates = {weight.name: weight.fate for weight in _match(result).weights}
    assert fates["up.weight"] is WeightFate.SCALED
    assert not any("up" in f.layers for f in _accusing(result) if f.discriminator == "numbers")
