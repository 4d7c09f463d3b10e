"""Models dumped with plain ``pickle``, and pickles of numpy arrays."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from normcheck.errors import NoModelError, UnreadableError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.pickles.numpy_arrays import array_as_tensor
from tests.formats import by_hand as hand

PROTOCOLS = range(6)


def dumped(path: Path, thing: Any, protocol: int) -> Path:
    path.write_bytes(pickle.dumps(thing, protocol))
    return path


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_whole_module(protocol, read, tmp_path: Path) -> None:
    """``pickle.dump(model)`` of any protocol: flags, attributes and all values."""
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, eps=0.25))
    model[1].eval()
    checkpoint = read(dumped(tmp_path / "model.pkl", model, protocol))
    assert "pickle" in checkpoint.format
    (found,) = checkpoint.models
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(found.tensors[name].values(), tensor.numpy())
    norm = found.modules[2]
    assert (norm.training, norm.attributes["eps"]) == (False, 0.25)
    assert norm.class_path == "torch.nn.modules.batchnorm.BatchNorm1d"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.int64, torch.bool])
def test_state_dict(kind, protocol, read_one, tmp_path: Path) -> None:
    """A state dict's tensors, each a torch file of its own inside the pickle."""
    state = {"a.weight": torch.arange(6).to(kind).reshape(2, 3).t(), "b.weight": torch.ones(())}
    tensors = read_one(dumped(tmp_path / "state.pkl", state, protocol)).tensors
    assert tensors["a.weight"].values().tolist() == state["a.weight"].tolist()
    assert tensors["b.weight"].shape == ()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_detectron2(protocol, read, tmp_path: Path) -> None:
    """The model zoo's form: a dictionary with numpy arrays under ``model``."""
    arrays = {
        "stem.bn.running_var": np.linspace(0, 1, 5, dtype=np.float32),
        "stem.conv.weight": np.arange(24.0).reshape(2, 3, 4),
        "transposed.weight": np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
        "half.weight": np.ones((2, 2), np.float16),
        "swapped.weight": np.arange(5).astype(">f4"),
        "flags.weight": np.array([True, False]),
        "scalar.weight": np.array(3.0),
        "empty.weight": np.zeros((0, 3), np.float32),
    }
    thing = {"model": arrays, "__author__": "third party", "matching_heuristics": True}
    (found,) = read(dumped(tmp_path / "R-50.pkl", thing, protocol)).models
    assert found.where == "model"
    assert list(found.tensors) == list(arrays)
    for name, array in arrays.items():
        assert found.tensors[name].shape == array.shape
        np.testing.assert_array_equal(found.tensors[name].values(), array)


def test_arrays_of_python_2(read_one, tmp_path: Path) -> None:
    """Arrays whose bytes are a string of Python 2, whatever encoding they look like."""
    for values in ([1.5, -2.0], np.frombuffer("éé".encode() * 2, "<f4").tolist()):
        raw = np.array(values, "<f4").tobytes()
        dtype = hand.build(
            hand.call(hand.name("numpy", "dtype"), hand.old_text(b"f4"), hand.FALSE, hand.TRUE),
            hand.several(hand.number(3), hand.old_text(b"<"), *[hand.NONE] * 3,
                         hand.number(-1), hand.number(-1), hand.number(0)),
        )  # fmt: skip
        array = hand.build(
            hand.call(hand.name("numpy.core.multiarray", "_reconstruct"),
                      hand.name("numpy", "ndarray"), hand.several(hand.number(0)),
                      hand.old_text(b"b")),
            hand.several(hand.number(1), hand.several(hand.number(2)), dtype, hand.FALSE,
                         hand.old_text(raw)),
        )  # fmt: skip
        path = tmp_path / "py2.pkl"
        path.write_bytes(hand.pickled(hand.mapping({"a_bn_weight": array})))
        assert pickle.loads(path.read_bytes(), encoding="latin1")["a_bn_weight"].tolist() == values
        assert read_one(path).tensors["a_bn_weight"].values().tolist() == values


@pytest.mark.parametrize(
    "array",
    [np.array(["text"]), np.array([{}], object), np.array(["2020"], "M8[D]"),
     np.zeros(2, [("a", "f4")]), np.zeros(2, np.longdouble), np.ma.array([1.0])],
    ids=lambda array: str(array.dtype),
)  # fmt: skip
@pytest.mark.parametrize("protocol", [2, 5])
def test_other_arrays_are_passed_over(array, protocol, read_one, tmp_path: Path) -> None:
    """Arrays of text, objects, dates and records are no tensors, and no mistake."""
    thing = {"a.weight": np.ones(2), "b.weight": array}
    found = read_one(dumped(tmp_path / "state.pkl", thing, protocol))
    assert list(found.tensors) == ["a.weight"]


def array_state(shape: bytes, code: str = "f4", order: str = "<", raw: bytes = b"\0" * 8) -> bytes:
    dtype = hand.build(
        hand.call(hand.name("numpy", "dtype"), hand.text(code)),
        hand.several(hand.number(3), hand.text(order)),
    )
    return hand.build(
        hand.call(hand.name("numpy._core.multiarray", "_reconstruct")),
        hand.several(hand.number(1), shape, dtype, hand.FALSE, b"C" + bytes([len(raw)]) + raw),
    )


@pytest.mark.parametrize(
    "array",
    [
        array_state(hand.several(hand.number(-1), hand.number(-2))),
        array_state(hand.several(hand.number(3))),
        array_state(hand.several(*[hand.number(1)] * 60, hand.number(2))),
        array_state(hand.several(hand.number(0), hand.number(2**62)), raw=b""),
        array_state(hand.several(hand.TRUE, hand.number(2))),
        array_state(hand.number(2)),
        array_state(hand.several(hand.number(2)), code="f²"),
        array_state(hand.several(hand.number(2)), code="f" + "4" * 5000),
        array_state(hand.several(hand.number(2)), code=""),
        array_state(hand.several(hand.number(2)), code="f3"),
        hand.call(hand.name("numpy._core.numeric", "_frombuffer"), hand.text("a")),
        hand.call(hand.name("numpy._core.numeric", "_frombuffer"), *[hand.NONE] * 4),
    ],
)
def test_impossible_arrays_are_no_tensors(array: bytes, tmp_path: Path) -> None:
    """An array that numpy cannot have written is not taken for a tensor."""
    path = tmp_path / "state.pkl"
    path.write_bytes(hand.pickled(hand.mapping({"a.weight": array})))
    with pytest.raises(NoModelError):
        read_checkpoint(path)
    assert array_as_tensor("text") is None


@pytest.mark.parametrize(
    "embedded",
    [b"", b"junk", pickle.dumps(1), pickle.dumps(hand.MAGIC), pickle.dumps(hand.MAGIC, 2) * 5],
)
def test_damaged_embedded_storage(embedded: bytes, tmp_path: Path) -> None:
    """A storage whose own file is damaged is an error that names the file outside."""
    stored = hand.call(
        hand.name("torch.storage", "_load_from_bytes"), b"C" + bytes([len(embedded)]) + embedded
    )
    path = tmp_path / "state.pkl"
    path.write_bytes(hand.pickled(hand.mapping({"a.weight": hand.tensor(stored, (1,), (1,))})))
    with pytest.raises(UnreadableError) as caught:
        read_checkpoint(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_embedded_files_do_not_nest(tmp_path: Path) -> None:
    """A storage's own file holds no further file: a chain of them is not followed."""
    inner = b"C\x00"
    for _ in range(50):
        data = hand.pickled(hand.call(hand.name("torch.storage", "_load_from_bytes"), inner))
        inner = b"B" + len(data).to_bytes(4, "little") + data
    path = tmp_path / "chain.pkl"
    path.write_bytes(data)
    with pytest.raises(UnreadableError):
        read_checkpoint(path)


@pytest.mark.parametrize("thing", [1, "text", [], {}, {"a": [1.5, None]}, print, {"lr": 0.1}])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickles_of_something_else(thing, protocol, tmp_path: Path) -> None:
    """A pickle without a model is read and said to have none."""
    path = dumped(tmp_path / "thing.pkl", thing, protocol)
    with pytest.raises(NoModelError, match="no model") as caught:
        read_checkpoint(path)
    assert str(path) in caught.value.message
    assert caught.value.hint
