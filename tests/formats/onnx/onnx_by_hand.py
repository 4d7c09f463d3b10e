"""ONNX models made node by node, for what no exporter of today writes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STATISTICS = ("scale", "shift", "mean", "var")


def norm(*outputs: str, **attributes: Any) -> onnx.NodeProto:
    """A batch norm of ``x``, whose statistics are initialisers."""
    inputs = ["x", *STATISTICS]
    return helper.make_node("BatchNormalization", inputs, outputs or ["y"], "norm", **attributes)


def weights(channels: int = 2) -> list[TensorProto]:
    """What ``norm`` takes, no two alike."""
    return [
        numpy_helper.from_array(np.arange(1, channels + 1, dtype=np.float32) + i / 8, name)
        for i, name in enumerate(STATISTICS)
    ]


def model(
    nodes: Sequence[onnx.NodeProto],
    initialisers: Sequence[TensorProto] = (),
    *,
    opset: int = 17,
    outputs: Sequence[str] = ("y",),
    functions: Sequence[onnx.FunctionProto] = (),
    inputs: Sequence[str] = ("x",),
) -> onnx.ModelProto:
    """A model of one input ``x``."""

    def value(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2, 4])

    graph = helper.make_graph(
        list(nodes), "by hand", [value(i) for i in inputs], [value(o) for o in outputs],
        list(initialisers),
    )  # fmt: skip
    domains = {"": opset, "com.microsoft": 1, **{f.domain: 1 for f in functions}}
    imports = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
    return helper.make_model(
        graph, opset_imports=imports, functions=list(functions), ir_version=8,
        producer_name="a tool",
    )  # fmt: skip


def written(made: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(made.SerializeToString())
    return path


def external(tensor: TensorProto, **entries: object) -> TensorProto:
    """The tensor with its bytes elsewhere."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor
