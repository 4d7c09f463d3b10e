"""ONNX messages without their large tensors: what is parsed, what stays, what is read."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from normcheck.errors import RefusedError, UnreadableError
from normcheck.formats.onnx import protobuf_wire as onnx_wire
from normcheck.formats.onnx.onnx_file import read_onnx
from normcheck.formats.onnx.protobuf_wire import Lean, lean
from normcheck.sources.limits import Budget, Limits
from normcheck.sources.source import MemorySource
from tests.formats.onnx.onnx_by_hand import model, norm, weights
from tests.formats.onnx.onnx_exported import Net, export, randomised

WHOLE = 1 << 40
"""More than any tensor has: nothing is left out."""


def constant(name: str, values: np.ndarray) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(values, name))


def everything() -> onnx.ModelProto:
    """Values in each field that has them, in graphs, nodes, branches and functions."""
    rolls = np.random.default_rng(0)
    branch = helper.make_graph(
        [constant("inside", rolls.normal(size=(3, 5))), helper.make_node("Add", ["x", "inside"],
         ["z"])],
        "branch", [], [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )  # fmt: skip
    typed = TensorProto(name="typed", data_type=TensorProto.FLOAT, dims=[7])
    typed.float_data.extend(rolls.normal(size=7))
    double = TensorProto(name="double", data_type=TensorProto.DOUBLE, dims=[2, 2])
    double.double_data.extend(rolls.normal(size=4))
    complex_ = TensorProto(name="complex", data_type=TensorProto.COMPLEX64, dims=[2])
    complex_.float_data.extend([1.0, 2.0, 3.0, 4.0])
    counted = TensorProto(name="counted", data_type=TensorProto.INT64, dims=[3])
    counted.int64_data.extend([1, -1, 1 << 40])
    # An element type whose values are not in the field that holds some.
    odd = TensorProto(name="odd", data_type=TensorProto.INT8, dims=[2])
    odd.float_data.extend([1.0, 2.0])
    function = helper.make_function(
        "own", "Shift", ["a"], ["b"],
        [constant("held", rolls.normal(size=4)), helper.make_node("Add", ["a", "held"], ["b"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    nodes = [
        norm("normed"),
        constant("beside", rolls.normal(size=(4, 4)).astype(np.float16)),
        helper.make_node("If", ["normed"], ["y"], then_branch=branch, else_branch=branch),
        helper.make_node("Shift", ["y"], ["end"], domain="own"),
    ]
    made = model(nodes, [*weights(), typed, double, complex_, counted, odd], functions=[function])
    made.graph.doc_string = "é" * 300
    return made


def shortened(data: bytes, limits: Limits | None = None) -> Lean:
    return lean(MemorySource(data, "m"), onnx.ModelProto.DESCRIPTOR, Budget(limits or Limits()))


def without_values(data: bytes) -> onnx.ModelProto:
    """The message, without the fields that may be left out or say where they are."""
    made = onnx.ModelProto.FromString(data)
    stack = [made]
    while stack:
        message = stack.pop()
        if isinstance(message, TensorProto):
            for name in ("raw_data", "float_data", "double_data", "external_data"):
                message.ClearField(name)
        for field, value in message.ListFields():
            if field.message_type:
                stack += list(value) if field.is_repeated else [value]
    return made


@pytest.mark.parametrize("window", [32, 1 << 16])
@pytest.mark.parametrize("large", [0, 20])
def test_what_is_parsed_is_the_message_without_large_values(
    monkeypatch: pytest.MonkeyPatch, large: int, window: int
) -> None:
    """Everything else is there, in its order; notes stand for what is not."""
    monkeypatch.setattr(onnx_wire, "_LARGE", large)
    monkeypatch.setattr(onnx_wire, "_WINDOW", window)
    data = everything().SerializeToString()
    short = shortened(data)
    assert without_values(short.data) == without_values(data)
    assert all(place.nbytes > large for place in short.places)
    assert len(short.places) == (12 if large == 0 else 6)
    names = {place.field for place in short.places}
    assert names == {"raw_data", "float_data", "double_data"}
    assert short.data.count(short.note.encode()) == len(short.places)
    assert short.note != shortened(data).note


def test_nothing_is_left_out_of_small_models() -> None:
    """Then the message is what it was."""
    data = everything().SerializeToString()
    assert shortened(data).data == data


@pytest.mark.parametrize("large", [0, 20])
def test_values_are_the_same_wherever_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    """From the parsed message, or from the file."""
    data = everything().SerializeToString()
    exported = export(
        randomised(Net()), tmp_path / "net.onnx", torch.randn(2, 3, 12, 12), dynamo=False
    )
    for source in (data, exported.read_bytes()):
        found = []
        for least in (WHOLE, large):
            monkeypatch.setattr(onnx_wire, "_LARGE", least)
            read = read_onnx(MemorySource(source, "m"), Limits()).models[0]
            found.append({
                name: tensor.values().tolist() if tensor.readable else tensor.note
                for name, tensor in read.tensors.items()
            })  # fmt: skip
        assert found[0] == found[1]
        assert len(found[0]) > 5


def test_memory_goes_with_what_is_judged() -> None:
    """A weight of 40 MB beside a norm: neither parsed nor read."""
    table = numpy_helper.from_array(np.zeros((1000, 10_000), np.float32), "table")
    data = model([norm()], [*weights(), table]).SerializeToString()
    source = Counting(data, "large")
    read = read_onnx(source, Limits(memory_bytes=2 << 20)).models[0]
    assert read.tensors["table"].shape == (1000, 10_000)
    assert read.tensors["var"].values().tolist() == [1.375, 2.375]
    assert source.taken < 4 * onnx_wire._WINDOW


class Counting(MemorySource):
    """Counts what is taken."""

    taken = 0

    def read_at(self, offset: int, length: int) -> bytes:
        self.taken += length
        return super().read_at(offset, length)


def test_values_twice_are_damage() -> None:
    """The last of two would count, or both one behind the other: no tool writes that."""
    tensor = numpy_helper.from_array(np.zeros(1000, np.float32), "t")
    twice = tensor.SerializeToString() + TensorProto(raw_data=bytes(4000)).SerializeToString()
    made = model([norm()], weights())
    data = made.SerializeToString()
    field = b"\x2a" + onnx_wire._as_varint(len(twice)) + twice
    with pytest.raises(UnreadableError, match="twice"):
        shortened(data + b"\x3a" + onnx_wire._as_varint(len(field)) + field)


def test_many_values_left_out_count() -> None:
    """A file of nothing but them does not take more memory than is allowed."""
    tensor = TensorProto(raw_data=bytes(onnx_wire._LARGE + 1)).SerializeToString()
    field = b"\x2a" + onnx_wire._as_varint(len(tensor)) + tensor
    graph = field * 3000
    data = b"\x08\x08\x3a" + onnx_wire._as_varint(len(graph)) + graph
    with pytest.raises(RefusedError):
        shortened(data, Limits(memory_bytes=1 << 20))
