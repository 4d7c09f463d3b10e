"""Operators of all versions, and graphs that no exporter of today writes."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from normcheck.errors import RefusedError, UnreadableError
from normcheck.saved.graph import Flow, Graph, Node, Op
from tests.formats.onnx.onnx_by_hand import STATISTICS, model, norm, weights, written
from tests.formats.onnx.onnx_exported import graph_of, in_training, model_of


@pytest.fixture
def graph(tmp_path: Path) -> Any:
    """Writes a model and reads its graph."""

    def read(made: onnx.ModelProto) -> Graph:
        return graph_of(written(made, tmp_path / "model.onnx"))

    return read


def only(graph: Graph, op: Op) -> Node:
    (node,) = [n for n in graph.nodes if n.op is op]
    return node


@pytest.mark.parametrize(
    ("opset", "outputs", "attributes", "training"),
    [
        (6, 1, {}, True),
        (6, 1, {"is_test": 0}, True),
        (6, 1, {"is_test": 1}, False),
        (7, 1, {}, False),
        (9, 5, {}, True),
        (13, 5, {}, True),
        (13, 1, {}, False),
        (14, 1, {}, False),
        (14, 3, {"training_mode": 1}, True),
        (17, 1, {"training_mode": 1}, True),
        (17, 1, {"training_mode": 0}, False),
    ],
)
def test_the_mode_of_batch_norm(
    graph: Any, opset: int, outputs: int, attributes: dict[str, int], training: bool
) -> None:
    """An attribute until 6, the number of outputs until 13, an attribute again since."""
    node = norm("y", *[f"more{i}" for i in range(1, outputs)], **attributes)
    found = only(graph(model([node], weights(), opset=opset)), Op.BATCH_NORM)
    assert found.training is training
    assert found.settings["momentum"] == 0.1
    assert found.settings["eps"] == 1e-5


@pytest.mark.parametrize(
    ("opset", "third", "attributes", "training"),
    [
        (6, None, {"is_test": 1}, False),
        (6, None, {}, True),
        (10, None, {"ratio": 0.25}, False),
        (12, None, {}, False),
        (13, True, {}, True),
        (13, False, {}, False),
        (13, "x", {}, None),
    ],
)
def test_the_mode_of_dropout(
    graph: Any, opset: int, third: object, attributes: dict[str, Any], training: bool | None
) -> None:
    """Since 12 an input, which need not be known before it runs."""
    inputs = ["x"] if third is None else ["x", "ratio", "x" if third == "x" else "flag"]
    held = [
        numpy_helper.from_array(np.float32(0.25), "ratio"),
        numpy_helper.from_array(np.array(third is True), "flag"),
    ]
    node = helper.make_node("Dropout", inputs, ["y"], "drop", **attributes)
    found = only(graph(model([node], held, opset=opset)), Op.DROPOUT)
    assert found.training is training
    assert found.settings["p"] == (0.25 if third is not None or "ratio" in attributes else 0.5)


def test_norms_of_onnx_and_of_its_runtime(graph: Any) -> None:
    """Each as what it is; a sum within a norm as a sum before it."""
    held = [*weights(4), numpy_helper.from_array(np.ones(4, np.float32), "one")]
    microsoft = {"domain": "com.microsoft"}
    nodes = [
        helper.make_node("LayerNormalization", ["x", "scale", "shift"], ["a"], axis=-1),
        helper.make_node("RMSNormalization", ["a", "scale"], ["b"], epsilon=1e-6),
        helper.make_node("GroupNormalization", ["b", "scale", "shift"], ["c"], num_groups=2),
        helper.make_node("LpNormalization", ["c"], ["d"], p=1),
        helper.make_node("LRN", ["d"], ["e"], size=5),
        helper.make_node("SimplifiedLayerNormalization", ["e", "scale"], ["f"], axis=-1),
        helper.make_node("SkipLayerNormalization", ["f", "a", "scale", "shift"], ["g"],
                         epsilon=1e-12, **microsoft),
        helper.make_node("SkipSimplifiedLayerNormalization", ["g", "b", "mean"],
                         ["h", "", "", "total"], **microsoft),
        helper.make_node("Identity", ["h"], ["y"]),
    ]  # fmt: skip
    read = graph(model(nodes, held, opset=23))
    assert [n.op for n in read.nodes] == [
        Op.LAYER_NORM, Op.RMS_NORM, Op.GROUP_NORM, Op.LP_NORM, Op.LOCAL_RESPONSE_NORM, Op.RMS_NORM,
        Op.ADD, Op.LAYER_NORM, Op.ADD, Op.RMS_NORM, Op.SAME,
    ]  # fmt: skip
    skip = read.nodes[7]
    assert (skip.operands["weight"], skip.operands["bias"]) == ("scale", "shift")
    assert skip.operands["input"] == read.nodes[6].outputs[0]
    assert skip.settings["eps"] == 1e-12
    assert read.nodes[8].outputs == ("total",)
    assert Flow(read).depends_on_input("y")


def test_activations_and_products(graph: Any) -> None:
    """Bounds as inputs or attributes, weights in either direction, factors that are not one."""
    held = [
        *weights(),
        numpy_helper.from_array(np.float32(0), "low"),
        numpy_helper.from_array(np.float32(6), "high"),
        numpy_helper.from_array(np.ones((3, 4), np.float32), "matrix"),
    ]
    nodes = [
        helper.make_node("Clip", ["x", "low", "high"], ["a"]),
        helper.make_node("Clip", ["a", "", "high"], ["b"]),
        helper.make_node("LeakyRelu", ["b"], ["c"], alpha=0.2),
        helper.make_node("HardSigmoid", ["c"], ["d"]),
        helper.make_node("Mul", ["c", "d"], ["e"]),
        helper.make_node("Gemm", ["e", "matrix"], ["f"]),
        helper.make_node("Gemm", ["f", "matrix"], ["g"], transB=1),
        helper.make_node("Gemm", ["g", "matrix"], ["h"], alpha=0.5),
        helper.make_node("Bernoulli", ["h"], ["y"]),
    ]
    read = {n.outputs[0]: n for n in graph(model(nodes, held)).nodes}
    assert read["a"].settings["activation"] == "ReLU6"
    assert read["b"].settings == {"activation": "hardtanh", "max": 6.0}
    assert read["c"].settings["negative_slope"] == 0.2
    assert read["e"].op is Op.MULTIPLY  # not hardswish: α is another
    assert "transposed_weight" in read["f"].operands
    assert "weight" in read["g"].operands
    assert read["h"].op is Op.OTHER
    assert read["y"].op is Op.RANDOM  # of probabilities that the model computed


@pytest.mark.parametrize(
    ("kind", "field", "numbers"),
    [
        (TensorProto.FLOAT, "float_data", [1.5, -2.0]),
        (TensorProto.DOUBLE, "double_data", [1.5, 1e300]),
        (TensorProto.INT64, "int64_data", [1, -(1 << 60)]),
        (TensorProto.INT8, "int32_data", [1, -5]),
        (TensorProto.BOOL, "int32_data", [1, 0]),
        (TensorProto.UINT32, "uint64_data", [1, (1 << 32) - 1]),
        (TensorProto.COMPLEX64, "float_data", [1.5, 2.0, 3.0, 4.0]),
        (TensorProto.FLOAT16, "int32_data", [0x3C00, 0xC000]),
        (TensorProto.BFLOAT16, "int32_data", [0x3F80, 0xC000]),
        (TensorProto.FLOAT8E4M3FN, "int32_data", [0x38, 0xC0]),
    ],
)
def test_values_in_fields_of_their_type(
    tmp_path: Path, kind: int, field: str, numbers: list[Any]
) -> None:
    """As the ``onnx`` package reads them itself."""
    tensor = TensorProto(name="held", data_type=kind, dims=[2])
    getattr(tensor, field).extend(numbers)
    node = helper.make_node("Identity", ["x"], ["y"])
    read = model_of(written(model([node], [tensor]), tmp_path / "m.onnx"))
    if kind == TensorProto.COMPLEX64:  # onnx 1.16 cannot
        expected = np.array(numbers, np.float32).view(np.complex64).astype(complex)
    else:
        expected = numpy_helper.to_array(tensor).astype(complex)
    assert np.array_equal(read.tensors["held"].values().astype(complex), expected)


def test_tensors_without_values_are_listed(tmp_path: Path) -> None:
    """Four-bit integers, a weight that was taken out, a sparse one."""
    packed = helper.make_tensor("packed", TensorProto.INT4, [2, 2], [1, 2, 3, 4])
    empty = TensorProto(name="empty", data_type=TensorProto.FLOAT, dims=[3, 2])
    made = model([helper.make_node("Identity", ["x"], ["y"])], [packed, empty])
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = numpy_helper.from_array(np.zeros(1, np.int64))
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
    read = model_of(written(made, tmp_path / "m.onnx")).tensors
    assert [(n, t.shape, t.readable) for n, t in read.items()] == [
        ("packed", (2, 2), False),
        ("empty", (3, 2), False),
        ("sparse", (4,), False),
    ]
    with pytest.raises(UnreadableError, match="no values"):
        read["empty"].values()


def test_statistics_in_constants(graph: Any) -> None:
    """As nodes of their own, some without a tensor."""
    constants = [helper.make_node("Constant", [], [t.name], value=t) for t in weights()[:3]] + [
        helper.make_node("Constant", [], ["flag"], value_int=1)
    ]
    held = weights()[3:]
    drop = helper.make_node("Dropout", ["y", "", "flag"], ["z"])
    read = graph(model([*constants, norm(), drop], held, outputs=["z"]))
    found = only(read, Op.BATCH_NORM)
    assert {read.stored[found.operands[p]] for p in ("running_mean", "running_var")} == {
        "mean", "var",
    }  # fmt: skip
    assert only(read, Op.DROPOUT).training is True


def test_initialisers_that_are_inputs_too(graph: Any) -> None:
    """As before IR version 4: what the user gives is only the rest."""
    assert graph(model([norm()], weights(), inputs=["x", *STATISTICS])).inputs == ("x",)


def test_nodes_in_any_order(graph: Any) -> None:
    """They come in an order in which they can run."""
    nodes = [helper.make_node("Relu", ["between"], ["y"]), norm("between")]
    assert [n.op for n in graph(model(nodes, weights())).nodes] == [Op.BATCH_NORM, Op.ACTIVATION]


def test_a_value_that_needs_itself(graph: Any) -> None:
    """Clearly an error."""
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    with pytest.raises(UnreadableError, match="needs what it makes itself"):
        graph(model([*nodes, helper.make_node("Relu", ["b"], ["y"])]))


def test_a_value_that_nothing_makes(graph: Any) -> None:
    """Named, with who takes it."""
    with pytest.raises(UnreadableError, match="norm takes 'var', which nothing makes"):
        graph(model([norm()], weights()[:3]))


def test_branches_and_loops_are_walked(graph: Any) -> None:
    """Their norms are found, with the names of outside; equal names inside stay apart."""
    branch = helper.make_graph([norm("inner", "m", "v", training_mode=1)], "then", [], [
        helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)])  # fmt: skip
    other = helper.make_graph([norm("inner")], "else", [], [
        helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)])  # fmt: skip
    carried = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("i", "c", "v")]
    body = helper.make_graph(
        [helper.make_node("Dropout", ["v", "", "c"], ["w"], "again"),
         helper.make_node("Identity", ["c"], ["c2"])],
        "body", carried,
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("c2", "w")],
    )  # fmt: skip
    held = [*weights(), numpy_helper.from_array(np.array(True), "flag")]
    nodes = [
        helper.make_node("If", ["flag"], ["a"], "choose", then_branch=branch, else_branch=other),
        helper.make_node("Loop", ["", "flag", "a"], ["y"], "repeat", body=body),
    ]
    read = graph(model(nodes, held))
    assert read.exact is False
    norms = [n for n in read.nodes if n.op is Op.BATCH_NORM]
    trained = {n.name: n.training for n in norms}
    assert trained == {"a/then_branch/norm": True, "a/else_branch/norm": False}
    assert len({n.outputs[0] for n in norms}) == 2
    assert [n.op for n in in_training(read)] == [Op.BATCH_NORM]
    assert only(read, Op.DROPOUT).training is None
    assert Flow(read).depends_on_input("y")
    assert Flow(read).depends_on_input(only(read, Op.DROPOUT).outputs[0])


def function(name: str, nodes: list[onnx.NodeProto], attributes: tuple[str, ...] = ()) -> Any:
    return helper.make_function(
        "local", name, ["x", *STATISTICS], ["y"], nodes, [helper.make_opsetid("", 17)], attributes
    )


def test_functions_are_inlined(graph: Any) -> None:
    """With what the call gives them: values, and attributes by reference."""
    inner = norm()
    referred = inner.attribute.add(name="training_mode", ref_attr_name="train")
    referred.type = onnx.AttributeProto.INT
    outer = helper.make_node("Norm", ["x", *STATISTICS], ["y"], "deeper", "", "local", train=1)
    functions = [function("Norm", [inner], ("train",)), function("Outer", [outer])]
    calls = [
        helper.make_node("Outer", ["x", *STATISTICS], ["a"], "first", "", "local"),
        helper.make_node("Norm", ["a", *STATISTICS], ["y"], "second", "", "local", train=0),
    ]
    read = graph(model(calls, weights(), functions=functions))
    norms = [n for n in read.nodes if n.op is Op.BATCH_NORM]
    assert [(n.training, n.operands["running_mean"]) for n in norms] == [
        (True, "mean"),
        (False, "mean"),
    ]
    assert norms[0].outputs == ("a",)


def test_a_function_that_calls_itself(graph: Any) -> None:
    """Is no endless loop."""
    again = helper.make_node("F", ["x", *STATISTICS], ["y"], "again", "", "local")
    with pytest.raises(UnreadableError, match="calls itself"):
        graph(model([again], weights(), functions=[function("F", [again])]))


def test_functions_that_multiply(graph: Any) -> None:
    """Thirty that each call the next twice are a thousand million nodes: refused."""
    chain = []
    for i in range(30):
        target, domain = (f"F{i + 1}", "local") if i < 29 else ("Relu", "")
        inputs = ["x", *STATISTICS] if domain else ["x"]
        calls = [
            helper.make_node(target, inputs, ["a"], "one", "", domain),
            helper.make_node(target, ["a", *inputs[1:]], ["y"], "two", "", domain),
        ]
        chain.append(function(f"F{i}", calls))
    start = helper.make_node("F0", ["x", *STATISTICS], ["y"], "start", "", "local")
    made = model([start], weights(), functions=chain)
    with pytest.raises(RefusedError):
        small_limits(made)


def small_limits(made: onnx.ModelProto) -> None:
    from normcheck.formats.onnx.onnx_file import read_onnx
    from normcheck.sources.limits import Limits
    from normcheck.sources.source import MemorySource

    read_onnx(MemorySource(made.SerializeToString(), "made"), Limits(memory_bytes=8 << 20))


def scalars(**values: float) -> list[TensorProto]:
    return [numpy_helper.from_array(np.float32(v), name) for name, v in values.items()]


def swish(last: list[tuple[str, list[str]]], **changed: float) -> onnx.ModelProto:
    """``x + 3``, cut off at 0 and 6, and what follows."""
    numbers = {"three": 3.0, "low": 0.0, "high": 6.0, "six": 6.0, "sixth": 1 / 6, **changed}
    nodes = [
        helper.make_node("Add", ["x", "three"], ["a"]),
        helper.make_node("Clip", ["a", "low", "high"], ["b"]),
        helper.make_node(last[0][0], last[0][1], ["c"]),
        helper.make_node(last[1][0], last[1][1], ["y"]),
    ]
    return model(nodes, scalars(**numbers))


ONE_WAY = [("Mul", ["x", "b"]), ("Div", ["c", "six"])]


@pytest.mark.parametrize(
    "last",
    [
        ONE_WAY,
        [("Mul", ["b", "x"]), ("Mul", ["sixth", "c"])],
        [("Div", ["b", "six"]), ("Mul", ["x", "c"])],
        [("Mul", ["b", "sixth"]), ("Mul", ["c", "x"])],
    ],
)
def test_hardswish_in_parts(graph: Any, last: list[tuple[str, list[str]]]) -> None:
    """Before version 14 there was no operator for it, and some exporters never took that."""
    node = only(graph(swish(last)), Op.ACTIVATION)
    assert node.settings == {"activation": "hardswish"}
    assert node.operands == {"input": "x"}
    assert node.outputs == ("y",)


@pytest.mark.parametrize(
    ("last", "changed"),
    [
        (ONE_WAY, {"three": 2.0}),
        (ONE_WAY, {"high": 5.0}),
        (ONE_WAY, {"six": 3.0}),
        ([("Mul", ["x", "b"]), ("Div", ["six", "c"])], {}),
        ([("Mul", ["a", "b"]), ("Div", ["c", "six"])], {}),
        ([("Mul", ["x", "b"]), ("Mul", ["c", "x"])], {}),
    ],
)
def test_what_is_no_hardswish(
    graph: Any, last: list[tuple[str, list[str]]], changed: dict[str, float]
) -> None:
    """Other numbers, or another way round."""
    names = {n.settings.get("activation") for n in graph(swish(last, **changed)).nodes}
    assert "hardswish" not in names
