"""What joblib dumps: arrays in the middle of a pickle, beside a model or alone."""

import io
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import normcheck
from normcheck.errors import NoModelError, NormcheckError, RefusedError, UnreadableError
from normcheck.formats.read_checkpoint import read_checkpoint, read_memory
from normcheck.pickles.joblib_arrays import NESTED

joblib = pytest.importorskip("joblib")

ARRAYS = {
    "float64": np.arange(1000.0),
    "large": np.random.default_rng(0).random((300, 200)),
    "Fortran order": np.asfortranarray(np.ones((30, 7), np.float32)),
    "big-endian": np.arange(20, dtype=">i8"),
    "texts": np.array(["γ", "beta", "running_var"]),
    "bytes": np.array([b"a", b"bcd"]),
    "dates": np.array(["2020-01-01", "2021-02-03"], dtype="datetime64[D]"),
    "objects": np.array(["a", None, 3.5], dtype=object),
    "arrays of objects": np.array([np.ones(50), "x", np.array([None, 1], object)], dtype=object),
    "structured": np.zeros(4, dtype=[("a", "f8"), ("b", "i2")]),
    "empty": np.zeros((0, 5)),
    "a number": np.array(3.0),
    "booleans": np.zeros(77, bool),
}


def _state() -> OrderedDict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2))
    for _ in range(3):
        model(torch.randn(64, 4))
    return model.state_dict()  # type: ignore[no-any-return]


def _big_endian(values: np.ndarray) -> np.ndarray:
    return values.astype(values.dtype.newbyteorder(">"))


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_before_and_behind_a_model(tmp_path: Path, name: str) -> None:
    """The model between them is read as it is without them, whatever the arrays hold."""
    state = _state()
    joblib.dump({"before": ARRAYS[name], "model": state, "after": ARRAYS[name]}, tmp_path / "a.pkl")
    (model,) = read_checkpoint(tmp_path / "a.pkl").models
    assert model.where == "model"
    assert set(model.tensors) == set(state)
    for key, tensor in model.tensors.items():
        assert np.array_equal(tensor.values(), state[key].numpy())


@pytest.mark.parametrize("compress", [0, 3])
@pytest.mark.parametrize("made", [np.ascontiguousarray, np.asfortranarray, _big_endian])
def test_a_state_dict_of_arrays(
    tmp_path: Path, made: Callable[[np.ndarray], np.ndarray], compress: int
) -> None:
    """Its values are what lies between the instructions, whatever their order."""
    state = {name: made(tensor.numpy()) for name, tensor in _state().items()}
    path = tmp_path / "a.joblib"
    joblib.dump({"model": state}, path, compress=compress)
    (model,) = read_checkpoint(path).models
    assert set(model.tensors) == set(state)
    for key, tensor in model.tensors.items():
        assert tensor.shape == state[key].shape
        assert np.array_equal(tensor.values(), state[key])


def test_values_between_instructions_are_repaired_in_place(tmp_path: Path) -> None:
    """All other bytes stay, and joblib loads the copy."""
    state = {name: tensor.numpy() for name, tensor in _state().items()}
    state["1.num_batches_tracked"] = np.array(-3)
    joblib.dump(state, tmp_path / "a.joblib")
    normcheck.fix(tmp_path / "a.joblib", tmp_path / "b.joblib", counts=True)
    fixed = joblib.load(tmp_path / "b.joblib")
    assert fixed.pop("1.num_batches_tracked") == 0
    assert all(np.array_equal(values, state[name]) for name, values in fixed.items())


def test_a_scaler_alone_is_no_model_and_no_damage(tmp_path: Path) -> None:
    """In a folder it is passed over; asked for by its name, it is said to hold no model."""
    joblib.dump({"mean": ARRAYS["large"], "names": ARRAYS["objects"]}, tmp_path / "scaler.pkl")
    with pytest.raises(NoModelError, match="no model"):
        read_checkpoint(tmp_path / "scaler.pkl")
    torch.save(_state(), tmp_path / "model.pt")
    report = normcheck.scan([tmp_path])
    assert not report.errors
    assert len(report.models) == 1


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.999])
def test_cut_off_within_an_array(tmp_path: Path, share: float) -> None:
    """A clear error, as for any pickle that ends too early."""
    joblib.dump([ARRAYS["large"], ARRAYS["objects"]], tmp_path / "a.pkl")
    whole = (tmp_path / "a.pkl").read_bytes()
    with pytest.raises(UnreadableError):
        read_memory(whole[: int(len(whole) * share)], "a.pkl")


@pytest.mark.parametrize("seed", range(4))
def test_changed_bytes_end_in_our_errors(tmp_path: Path, seed: int) -> None:
    """Shapes and widths that the file makes up are believed no further than the file is long."""
    joblib.dump([ARRAYS["float64"], ARRAYS["arrays of objects"], ARRAYS["texts"]], tmp_path / "a")
    whole = (tmp_path / "a").read_bytes()
    rng = np.random.default_rng(seed)
    for _ in range(300):
        changed = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            changed[place] = rng.integers(0, 256)
        with suppress(NormcheckError):
            read_memory(bytes(changed), "a.pkl")


def test_objects_within_objects_have_an_end() -> None:
    """Deeper than anybody dumps them, they are refused instead of gone into."""
    file = io.BytesIO()
    joblib.dump(np.array(["end"], object), file)
    dumped = file.getvalue()
    begin = dumped.index(b"\x80\x05", 2)  # of the array's own pickle
    wrapper, array, stop = dumped[:begin], dumped[begin:-1], dumped[-1:]
    with pytest.raises(NoModelError):
        read_memory(wrapper * NESTED + array + stop * NESTED, "a.pkl")
    with pytest.raises(RefusedError, match="deep in each other"):
        read_memory(wrapper * (NESTED + 2) + array + stop * (NESTED + 2), "a.pkl")
