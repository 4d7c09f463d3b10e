"""Running an ONNX file with ONNX Runtime."""

import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from normcheck.errors import NormcheckError, UsageError
from normcheck.live.loading.onnx_session import OnnxModel
from tests.formats.onnx.onnx_by_hand import model, norm, weights, written


@pytest.fixture
def normed(tmp_path: Path) -> OnnxModel:
    return OnnxModel(written(model([norm()], weights()), tmp_path / "model.onnx"))


def test_inputs_and_outputs(normed: OnnxModel) -> None:
    """With numpy's types, and None for a length that may vary."""
    (given,) = normed.inputs
    assert (given.name, given.dtype, given.shape) == ("x", np.dtype("float32"), (None, 2, 4))
    assert normed.outputs == ("y",)


def test_what_is_in_the_file_runs(normed: OnnxModel) -> None:
    """The formula, with the statistics of the file; other types are cast."""
    x = np.random.default_rng(0).normal(size=(3, 2, 4))
    scale, shift, mean, var = (np.array([1, 2]) + i / 8 for i in range(4))
    (y,) = normed.run({"x": x})
    column = (slice(None), None)
    expected = (x - mean[column]) / np.sqrt(var[column] + 1e-5) * scale[column] + shift[column]
    assert y.dtype == np.float32
    assert np.allclose(y, expected, atol=1e-5)


def test_dropout_in_training_mode_drops(tmp_path: Path) -> None:
    """Optimisations are off: nothing of the file is taken away."""
    flag = helper.make_tensor("flag", TensorProto.BOOL, [], [1])
    node = helper.make_node("Dropout", ["x", "", "flag"], ["y"])
    run = OnnxModel(written(model([node], [flag]), tmp_path / "m.onnx"))
    x = np.ones((50, 2, 4), np.float32)
    first, second = (run.run({"x": x})[0] for _ in range(2))
    assert not np.array_equal(first, second)


def test_wrong_inputs(normed: OnnxModel) -> None:
    """A name that it has not, one that is missing, a shape that it does not take."""
    with pytest.raises(UsageError, match="has no input 'z'"):
        normed.run({"x": np.ones((1, 2, 4)), "z": np.ones(1)})
    with pytest.raises(UsageError, match="not given its input 'x'"):
        normed.run({})
    with pytest.raises(NormcheckError, match="fails on x 1×3×4") as caught:
        normed.run({"x": np.ones((1, 3, 4))})
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_a_model_that_the_runtime_refuses(tmp_path: Path) -> None:
    """An operator that it does not know, a file that is none."""
    unknown = helper.make_node("Unheard", ["x"], ["y"])
    path = written(model([unknown]), tmp_path / "model.onnx")
    with pytest.raises(NormcheckError, match="does not load it") as caught:
        OnnxModel(path)
    assert caught.value.hint
    path.write_bytes(b"\x08\x08:nothing")
    with pytest.raises(NormcheckError):
        OnnxModel(path)


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how to get it."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError) as caught:
        OnnxModel(tmp_path / "model.onnx")
    assert caught.value.hint == "pip install 'normcheck[onnx]'"
