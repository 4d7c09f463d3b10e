"""What the ONNX standard's own node tests hold of norms: kinds, modes, and where numbers lie."""

from pathlib import Path

import numpy as np
import pytest

from normcheck import scan
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.norms.find_norms import anatomy_of
from normcheck.norms.layer import NormLayer
from normcheck.report.report import Report

onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.filterwarnings("ignore")

EXPECTED = {
    "layer_normalization": "LayerNorm",
    "rms_normalization": "RMSNorm",
    "group_normalization": "GroupNorm",
    "instancenorm": "InstanceNorm2d",
    "batchnorm": "BatchNorm2d",
    "mvn": "BatchNorm2d",  # over the batch by default, without statistics of its own
    "lrn": "LocalResponseNorm",
}
DROPOUT = ("dropout", "training_dropout")
_CLOSE = 1e-5
"""Between the standard's outputs and ONNX Runtime's, in float32."""


def _cases() -> dict[str, object]:
    from onnx.backend.test.case.node import collect_testcases

    with np.errstate(all="ignore"):
        cases = {case.name.removeprefix("test_"): case for case in collect_testcases(None)}
    families = (*EXPECTED, *DROPOUT)
    return {name: case for name, case in cases.items() if name.startswith(families)}


@pytest.fixture(scope="module")
def standard() -> dict[str, object]:
    """The node tests of norms, by name."""
    return _cases()


def _scanned(model: object, path: Path) -> Report:
    onnx.save(model, path)
    report = scan(path)
    assert not report.errors, report.errors
    return report


@pytest.mark.parametrize("family", EXPECTED)
def test_norms_of_the_standard_and_their_expansions_are_seen(
    family: str, standard: dict[str, object], tmp_path: Path
) -> None:
    names = [name for name in standard if name.startswith(family)]
    assert names
    unseen = {}
    for name in names:
        report = _scanned(standard[name].model, tmp_path / f"{name}.onnx")  # type: ignore[attr-defined]
        kinds = [layer.kind for model in report.models for layer in model.layers]
        if kinds != [EXPECTED[family]]:
            unseen[name] = kinds
    assert not unseen


def test_modes_of_batch_norms_of_the_standard(standard: dict[str, object], tmp_path: Path) -> None:
    """Mean and variance are inputs of the graph: given, whatever the mode."""
    for name, case in standard.items():
        if name.startswith("batchnorm"):
            report = _scanned(case.model, tmp_path / f"{name}.onnx")  # type: ignore[attr-defined]
            found = {f.rule for f in report.findings}
            assert found == ({"NC204"} if name.endswith("training_mode") else set())


def test_modes_of_dropouts_of_the_standard(standard: dict[str, object], tmp_path: Path) -> None:
    """Without a mode they do nothing; where the mode is an input, whoever calls chooses."""
    names = [name for name in standard if name.startswith(DROPOUT)]
    assert len(names) >= 10
    for name in names:
        report = _scanned(standard[name].model, tmp_path / f"{name}.onnx")  # type: ignore[attr-defined]
        found = [(f.rule, f.severity.value, f.discriminator) for f in report.findings]
        given = name.startswith("training_dropout")
        assert found == ([("NC204", "info", "given")] if given else []), name


@pytest.mark.parametrize("ratio", [0.0, 0.5])
@pytest.mark.parametrize("mode", [None, False, True])
def test_a_mode_that_is_stored_decides(
    mode: bool | None, ratio: float, standard: dict[str, object], tmp_path: Path
) -> None:
    """The standard's dropout with its inputs of ratio and mode stored."""
    model = onnx.ModelProto()
    model.CopyFrom(standard["training_dropout"].model)  # type: ignore[attr-defined]
    x, r, t = model.graph.input
    stored = [onnx.numpy_helper.from_array(np.asarray(ratio, np.float32), r.name)]
    if mode is not None:
        stored.append(onnx.numpy_helper.from_array(np.asarray(mode), t.name))
    else:
        model.graph.node[0].input[2] = ""
    model.graph.initializer.extend(stored)
    del model.graph.input[1:]
    report = _scanned(model, tmp_path / "model.onnx")
    assert x.name == model.graph.input[0].name
    assert bool(report.findings) == (mode is True and ratio > 0)


def test_what_is_run_gives_the_outputs_of_the_standard(
    standard: dict[str, object], tmp_path: Path
) -> None:
    """As the file stands and as it is deployed; a dropout that drops is random, and left out."""
    pytest.importorskip("onnxruntime")
    from normcheck.live.loading.onnx_session import OnnxModel

    apart = {}
    ran = 0
    for name, case in standard.items():
        if name.startswith("training_dropout") and "zero_ratio" not in name:
            continue
        path = tmp_path / f"{name}.onnx"
        onnx.save(case.model, path)  # type: ignore[attr-defined]
        for optimised in (False, True):
            model = OnnxModel(path, optimised=optimised)
            for given, wanted in case.data_sets:  # type: ignore[attr-defined]
                fed = {i.name: np.asarray(v) for i, v in zip(model.inputs, given, strict=True)}
                for ours, theirs in zip(model.run(fed), wanted, strict=True):
                    ran += 1
                    if not np.allclose(ours, theirs, rtol=_CLOSE, atol=_CLOSE):
                        apart[name, optimised] = float(np.abs(ours - theirs).max())
    assert not apart
    assert ran > 200


MEAN = np.array([0.5, -1.0, 2.0, 0.25], np.float32)
VARIANCE = np.array([1.5, 0.75, 2.0, 0.5], np.float32)


def _batch_norm(how: str, *, training: bool = False) -> object:
    """A batch norm whose mean and variance are held in one of the ways that ONNX has."""
    helper, numbers = onnx.helper, onnx.numpy_helper
    ones = np.ones(4, np.float32)
    nodes, functions = [], []
    stored = [numbers.from_array(ones * 1.5, "g"), numbers.from_array(ones * 0.5, "b")]
    inputs = [helper.make_tensor_value_info("x", 1, [2, 4, 3, 3])]
    for name, values in (("mean", MEAN), ("var", VARIANCE)):
        if how == "inputs":
            inputs.append(helper.make_tensor_value_info(name, 1, [4]))
        elif how == "constants":
            nodes.append(helper.make_node("Constant", [], [name], value_floats=values.tolist()))
        elif how == "quantised":
            scale = np.float32(0.25)
            codes = np.round(values / scale).astype(np.int8)
            stored += [numbers.from_array(codes, f"{name}_q"),
                       numbers.from_array(np.asarray(scale), f"{name}_s")]  # fmt: skip
            nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_s"], [name]))
        else:
            stored.append(numbers.from_array(values, name))
    outputs = ["y", "m", "v"] if training else ["y"]
    operator = helper.make_node("BatchNormalization", ["x", "g", "b", "mean", "var"], outputs,
                                training_mode=int(training))  # fmt: skip
    opsets = [helper.make_opsetid("", 18)]
    if how == "function":
        given = ["x", "g", "b", "mean", "var"]
        functions.append(helper.make_function("local", "norm", given, ["y"], [operator], opsets))
        operator = helper.make_node("norm", ["x", "g", "b", "mean", "var"], ["y"], domain="local")
        opsets = [*opsets, helper.make_opsetid("local", 1)]
    graph = helper.make_graph(
        [*nodes, operator], "g", inputs, [helper.make_tensor_value_info("y", 1, None)], stored
    )
    return helper.make_model(graph, opset_imports=opsets, functions=functions)


def _layer(path: Path) -> NormLayer:
    (layer,) = anatomy_of(read_checkpoint(path).models[0]).layers
    return layer


@pytest.mark.parametrize("how", ["stored", "inputs", "constants", "quantised", "function"])
def test_inference_uses_what_it_is_given(how: str, tmp_path: Path) -> None:
    """``training_mode=0``: no batch statistics, wherever mean and variance come from."""
    report = _scanned(_batch_norm(how), tmp_path / "model.onnx")
    assert not [f for f in report.findings if f.severity.value != "info"]
    layer = _layer(tmp_path / "model.onnx")
    assert layer.training is False
    if how == "inputs":
        assert layer.running_mean is None
        assert layer.unread["running_mean"] == "given from outside"
    else:
        assert layer.running_mean is not None
        assert layer.running_mean.numbers == pytest.approx(MEAN)
        assert layer.running_var is not None
        assert layer.running_var.numbers == pytest.approx(VARIANCE)


def test_training_with_statistics_from_outside_is_named(tmp_path: Path) -> None:
    report = _scanned(_batch_norm("inputs", training=True), tmp_path / "model.onnx")
    assert [f.rule for f in report.findings] == ["NC204"]


def test_statistics_that_are_computed_from_the_batch_are_no_given_ones(tmp_path: Path) -> None:
    helper, numbers = onnx.helper, onnx.numpy_helper
    ones = numbers.from_array(np.ones(4, np.float32), "g")
    axes = numbers.from_array(np.array([0, 2, 3]), "axes")
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0),
         helper.make_node("Sub", ["x", "x"], ["d"]),
         helper.make_node("ReduceMean", ["d", "axes"], ["var"], keepdims=0),
         helper.make_node("BatchNormalization", ["x", "g", "g", "mean", "var"], ["y"])],
        "g", [helper.make_tensor_value_info("x", 1, [2, 4, 3, 3])],
        [helper.make_tensor_value_info("y", 1, None)], [ones, axes],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    assert "NC205" in {f.rule for f in _scanned(model, tmp_path / "model.onnx").findings}


def test_a_graph_without_nodes_is_read(tmp_path: Path) -> None:
    """An input that is given back, and statistics that nothing takes."""
    helper, numbers = onnx.helper, onnx.numpy_helper
    through = helper.make_tensor_value_info("x", 1, [2, 3])
    stored = [
        numbers.from_array(np.ones(3, np.float32), f"norm.{part}")
        for part in ("running_mean", "running_var")
    ]
    for name, graph in {
        "identity": helper.make_graph([], "g", [through], [through]),
        "tensors": helper.make_graph([], "g", [], [], stored),
    }.items():
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
        report = _scanned(model, tmp_path / f"{name}.onnx")
        assert sum(len(m.layers) for m in report.models) == (name == "tensors")


def test_models_of_the_standard_are_read() -> None:
    """Its networks, whose weights are made up, and what torch's first exporter wrote."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data"
    paths = [*folder.glob("light/*.onnx"), *folder.glob("pytorch-*/*/model.onnx")]
    if not paths:
        pytest.skip("the package came without its data")
    operators = ("BatchNormalization", "InstanceNormalization", "LRN")
    norms = 0
    for path in paths:
        wanted = sum(n.op_type in operators for n in onnx.load(path).graph.node)
        report = scan(path)
        assert not report.errors, path
        assert sum(len(m.layers) for m in report.models) == wanted, path
        assert "NC204" not in {f.rule for f in report.findings}, path
        norms += wanted
    assert norms > 300
