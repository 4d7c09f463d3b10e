"""Tensors of every layout and kind: their values where the file has them, and no crash else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from normcheck.errors import RefusedError, UnreadableError
from normcheck.saved.checkpoint import SavedModel
from normcheck.saved.dtypes import BY_NAME, FLOAT32
from normcheck.saved.tensors import PlainRegion, Storage, TensorRef, checked_tensor
from normcheck.sources.source import MemorySource
from tests.formats import by_hand as hand

both_formats = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


class Tagged(torch.Tensor):
    """A subclass of Tensor, with attributes."""


LAYOUTS = {
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 3),
    "transposed": torch.arange(6.0).reshape(2, 3).t(),
    "every second": torch.arange(10.0)[1::2],
    "a column": torch.arange(12.0).reshape(3, 4)[:, 1],
    "expanded": torch.tensor([1.0, 2.0]).expand(3, 2),
    "one number, expanded": torch.tensor(7.0).expand(2, 2, 2),
    "permuted": torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1)[1:, :, ::2],
    "channels last": torch.arange(48.0).reshape(1, 3, 4, 4).to(memory_format=torch.channels_last),
    "overlapping windows": torch.arange(6.0).unfold(0, 3, 1),
    "of length one": torch.arange(4.0).as_strided((1, 2), (999, 1), 1),
    "nine dimensions": torch.arange(512.0).reshape([2] * 9),
    "attributes": torch.ones(2),
}
LAYOUTS["attributes"].note = "kept elsewhere"


@both_formats
@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name, legacy, read_one) -> None:
    """Whatever its strides, a tensor has torch's shape, strides and values."""
    tensor = LAYOUTS[name]
    found = read_one({"a.weight": tensor}, legacy=legacy).tensors["a.weight"]
    assert found.shape == tuple(tensor.shape)
    assert found.numel == tensor.numel()
    assert found.strides == tensor.stride()
    values = found.values()
    assert values.shape == found.shape
    np.testing.assert_array_equal(values, tensor.numpy())


@both_formats
@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor([1 + 2j, -3j]).conj(),
        torch.tensor([[1 + 2j, 3 - 4j]], dtype=torch.complex128).mH,
        torch.tensor([1 + 2j, -3j]).conj().imag,
        torch.complex(torch.tensor([1.0]), torch.tensor([2.0])).conj().imag.expand(3),
    ],
    ids=["conjugated", "adjoint", "negated", "negated and expanded"],
)
def test_lazy_bits(tensor, legacy, read_one) -> None:
    """Conjugate and negative bits, which torch sets instead of computing, are applied."""
    assert tensor.is_conj() or tensor.is_neg()
    found = read_one({"a.weight": tensor}, legacy=legacy).tensors["a.weight"]
    assert found.values().tolist() == tensor.tolist()


@both_formats
def test_lazy_bits_of_parameters(legacy, read_one) -> None:
    """A parameter with such a bit keeps it."""
    parameter = nn.Parameter(torch.tensor([1 + 2j]).conj())
    found = read_one({"a.weight": parameter}, legacy=legacy).tensors["a.weight"]
    assert found.parameter
    assert found.values().tolist() == [1 - 2j]


@both_formats
def test_subclasses(legacy, read_one) -> None:
    """A tensor of a class of its own is the tensor inside."""
    tagged = torch.arange(4.0).as_subclass(Tagged)
    tagged.origin = "somewhere"
    found = read_one({"a.weight": tagged}, legacy=legacy).tensors["a.weight"]
    assert found.values().tolist() == [0, 1, 2, 3]


@both_formats
def test_parameter_with_attributes(legacy, read_one) -> None:
    """A parameter that carries Python attributes is a parameter like any other."""
    parameter = nn.Parameter(torch.ones(2), requires_grad=False)
    parameter.no_decay = True
    found = read_one({"a.weight": parameter}, legacy=legacy).tensors["a.weight"]
    assert (found.parameter, found.requires_grad) == (True, False)
    assert found.values().tolist() == [1, 1]


def without_values(model: SavedModel, shape: tuple[int, ...], words: str) -> TensorRef:
    """The tensor ``a.weight``, checked to have a shape, no values, and a reason."""
    tensor = model.tensors["a.weight"]
    assert (tensor.shape, tensor.readable) == (shape, False)
    assert words in tensor.note
    with pytest.raises(UnreadableError, match="without values"):
        tensor.values()
    return tensor


@both_formats
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.int64])
def test_meta(kind, legacy, read_one) -> None:
    """A meta tensor has shape and type, and no values."""
    model = read_one({"a.weight": torch.empty(3, 2, dtype=kind, device="meta")}, legacy=legacy)
    assert f"torch.{without_values(model, (3, 2), 'meta').dtype.name}" == str(kind)


def test_meta_storage(read_one, tmp_path: Path) -> None:
    """A storage on the meta device has no bytes in the archive."""
    stored = hand.storage(location="meta", numel=10)
    data = hand.pickled(hand.mapping({"a.weight": hand.tensor(stored, (10,), (1,))}))
    without_values(read_one(hand.torch_zip(tmp_path / "m.pt", data)), (10,), "")


def per_tensor(kind: torch.dtype) -> torch.Tensor:
    return torch.quantize_per_tensor(torch.ones(2, 3), 0.1, 0, kind)


def per_channel(kind: torch.dtype) -> torch.Tensor:
    scales, zeros = torch.tensor([0.1, 0.2]), torch.tensor([0, 0])
    return torch.quantize_per_channel(torch.ones(2, 3), scales, zeros, 0, kind)


@both_formats
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("quantise", [per_tensor, per_channel])
@pytest.mark.parametrize("kind", [torch.quint8, torch.qint8, torch.qint32], ids=str)
def test_quantised(quantise, kind, legacy, read_one) -> None:
    """Quantised tensors are listed without values."""
    model = read_one({"a.weight": quantise(kind)}, legacy=legacy)
    without_values(model, (2, 3), "quantised")


@both_formats
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "layout",
    [torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc],
    ids=str,
)
def test_sparse(layout, legacy, read_one) -> None:
    """Sparse tensors are listed without values."""
    blocks = {"blocksize": (2, 2)} if "bs" in str(layout) else {}
    tensor = torch.eye(4, dtype=torch.float64).to_sparse(layout=layout, **blocks)
    model = read_one({"a.weight": tensor}, legacy=legacy)
    assert without_values(model, (4, 4), "sparse").dtype.name == "float64"


@both_formats
@pytest.mark.filterwarnings("ignore")
def test_nested_tensors_are_no_crash(legacy, read_one) -> None:
    """A nested tensor is none that could be read; the others beside it are."""
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    model = read_one({"a.weight": nested, "b.weight": torch.ones(2)}, legacy=legacy)
    assert model.tensors["b.weight"].values().tolist() == [1, 1]


@both_formats
def test_lazy_parameters(legacy, read_one) -> None:
    """Parameters of a lazy layer that never ran have no values."""
    model = read_one({"a.weight": nn.LazyLinear(3).weight}, legacy=legacy)
    without_values(model, (), "lazy")


def call_of(function: str, *args: bytes) -> bytes:
    return hand.call(hand.name("torch._utils", function), *args)


@pytest.mark.parametrize(
    ("body", "shape", "words"),
    [
        (call_of("_rebuild_wrapper_subclass", hand.name("torchao", "Packed"),
                 hand.name("torch", "bfloat16"), hand.several(hand.number(2)), hand.NONE,
                 hand.number(0), hand.NONE, hand.NONE, hand.TRUE), (2,), "torchao.Packed"),
        (call_of("_rebuild_wrapper_subclass", hand.NONE, hand.NONE, hand.NONE, hand.NONE),
         (0,), "subclass"),
        (call_of("_rebuild_sparse_tensor", hand.NONE, hand.NONE), (), "sparse"),
        (call_of("_rebuild_qtensor", hand.NONE, hand.NONE, hand.several(hand.number(-3))),
         (0,), "quantised"),
    ],
)  # fmt: skip
def test_rebuilt_without_data(body, shape, words, read_one, tmp_path: Path) -> None:
    """Wrapper subclasses, and calls with arguments that make no sense, have no values."""
    path = hand.torch_zip(tmp_path / "m.pt", hand.pickled(hand.mapping({"a.weight": body})))
    without_values(read_one(path), shape, words)


def test_tensors_of_other_devices(read_one, tmp_path: Path) -> None:
    """Tensors that torch moves to a device after loading are read as they lie in the file."""
    stored = hand.tensor(hand.storage(numel=2), (2,), (1,))
    body = call_of("_rebuild_device_tensor_from_cpu_tensor", stored, hand.NONE, hand.text("xla:0"),
                   hand.FALSE)  # fmt: skip
    path = hand.torch_zip(
        tmp_path / "m.pt", hand.pickled(hand.mapping({"a.weight": body})),
        {"0": np.array([5, 6], "<f4").tobytes()},
    )  # fmt: skip
    assert read_one(path).tensors["a.weight"].values().tolist() == [5, 6]


BYTES = np.arange(8, dtype="<f4").tobytes()
STORAGE = Storage("0", FLOAT32, 32, region=PlainRegion(MemorySource(BYTES, "memory"), 0, 32))
FAR = 2**62


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (9,), (1,)), (8, (1,), (1,)), (0, (2, 2), (7, 1)), (0, (2,), (8,)), (-1, (1,), (1,)),
        (0, (-1,), (1,)), (0, (1,), (-1,)), (0, (1,), ()), (0, (), (1,)), (0, (1.0,), (1,)),
        (0, (True,), (1,)), (True, (1,), (1,)), (None, (1,), (1,)), (0, None, None),
        (0, "ab", "ab"),
        (0, (2**63,), (0,)), (10**400, (1,), (1,)), (0, (2,), (10**400,)), (FAR, (1,), (1,)),
    ],
)  # fmt: skip
def test_impossible_tensors(offset: Any, shape: Any, strides: Any) -> None:
    """A tensor outside its storage, or of numbers that are none, is refused at once."""
    with pytest.raises(UnreadableError) as caught:
        checked_tensor(STORAGE, offset, shape, strides)
    assert caught.value.hint
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    ("shape", "strides"),
    [((FAR,), (0,)), ((2**30, 2**30), (0, 0)), ((0, FAR), (1, 1)), ((1,) * 40, (1,) * 40)],
)
def test_enormous_tensors(shape, strides) -> None:
    """More elements or dimensions than any model has are refused, empty tensors included."""
    with pytest.raises(RefusedError):
        checked_tensor(STORAGE, 0, shape, strides)


@pytest.mark.parametrize(
    ("shape", "strides", "values"),
    [
        ((1,), (FAR,), [0]),
        ((1, 2), (FAR, 1), [[0, 1]]),
        ((0,), (FAR,), []),
        ((0, 2), (1, 1), np.zeros((0, 2)).tolist()),
        ([8], [1], list(range(8))),
    ],
)
def test_unusual_but_possible_tensors(shape, strides, values) -> None:
    """Steps that are never taken may be of any length, and lists serve as well as tuples."""
    assert checked_tensor(STORAGE, 0, shape, strides).values().tolist() == values


def test_untyped_storage_read_as_another_type() -> None:
    """Bounds are those of the tensor's own type, not of the storage's."""
    untyped = Storage("0", BY_NAME["uint8"], 32, region=STORAGE.region)
    tensor = checked_tensor(untyped, 4, (4,), (1,), dtype=FLOAT32)
    assert tensor.values().tolist() == [4, 5, 6, 7]
    with pytest.raises(UnreadableError, match="reaches to byte 36"):
        checked_tensor(untyped, 5, (4,), (1,), dtype=FLOAT32)
