"""safetensors, read by hand: against the files that the package itself writes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from normcheck.errors import NoModelError, RefusedError, UnreadableError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.formats.safetensors_file import natural_order
from normcheck.saved.checkpoint import Form
from normcheck.sources.limits import Limits
from tests.saved.test_dtypes import COMPLEX, SAVED, example, in_float64


def written(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    """Writes a file with any header, of any declared length."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)
    return path


def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize("name", sorted({*SAVED} - {"complex32", "bcomplex32", "complex128"}))
def test_values(name, read_one, tmp_path: Path) -> None:
    """A tensor of any type of the format has the values that torch gives."""
    tensor = example(name).reshape(2, 12)
    path = tmp_path / "model.safetensors"
    try:
        save_file({"a.weight": tensor}, path)
    except KeyError:
        pytest.skip("this version of safetensors does not write it")
    found = read_one(path).tensors["a.weight"]
    assert (found.dtype.name, found.shape) == (name, (2, 12))
    kind = np.complex128 if name in COMPLEX else np.float64
    np.testing.assert_array_equal(found.values().astype(kind), in_float64(tensor))


def test_state_dict(read, tmp_path: Path) -> None:
    """One model without a place, its tensors by name, numbers in names in their order."""
    names = ["layers.10.bias", "layers.2.weight", "layers.2.bias", "head.weight"]
    path = tmp_path / "model.safetensors"
    save_file({name: torch.full((), float(i)) for i, name in enumerate(names)}, path)
    checkpoint = read(path)
    (found,) = checkpoint.models
    assert (found.form, found.where, found.modules) == (Form.STATE_DICT, "", None)
    assert "safetensors" in checkpoint.format
    assert list(found.tensors) == [
        "head.weight", "layers.2.bias", "layers.2.weight", "layers.10.bias",
    ]  # fmt: skip
    assert found.tensors["layers.10.bias"].values() == 0


def test_metadata_is_no_tensor(read_one, tmp_path: Path) -> None:
    """``__metadata__`` in the header is passed over."""
    path = tmp_path / "model.safetensors"
    save_file({"a.weight": torch.zeros(0, 3)}, path, metadata={"format": "pt"})
    found = read_one(path)
    assert {name: tensor.shape for name, tensor in found.tensors.items()} == {"a.weight": (0, 3)}


@pytest.mark.parametrize("length", [128, 384, 640, 896, 1152, 1408])
def test_headers_that_begin_like_a_pickle(length: int, read, tmp_path: Path) -> None:
    """Header lengths whose first bytes are those of a pickle do not mislead."""
    header = json.dumps({"a.weight": entry()}).encode().ljust(length)
    path = written(tmp_path / "model.safetensors", header, b"\0" * 8)
    assert path.read_bytes()[0] == 0x80
    assert path.read_bytes()[1] <= 5
    assert read(path).models[0].tensors["a.weight"].values().tolist() == [0, 0]


@pytest.mark.parametrize("dtype", ["F4", "F6_E2M3", "I2", None, {}, [["deep"]]])
def test_types_without_plain_numbers(dtype, read_one, tmp_path: Path) -> None:
    """Packed and unknown types are listed without values."""
    header = {"a.weight": entry(dtype, [4], [0, 2]), "b.weight": entry(offsets=[2, 10])}
    found = read_one(written(tmp_path / "m.safetensors", header, b"\0" * 10)).tensors
    assert (found["a.weight"].shape, found["a.weight"].readable) == ((4,), False)
    assert "element type" in found["a.weight"].note
    assert found["b.weight"].readable


@pytest.mark.parametrize(
    "described",
    [
        [], "text", None, {}, {"dtype": "F32"}, entry(shape=None), entry(shape=[-1]),
        entry(shape=[1.5]), entry(shape=[True, 2]), entry(shape=[3]), entry(shape=[2**70]),
        entry(shape=[0, 2**62, 2**62], offsets=[0, 0]), entry(shape=[1] * 65 + [2]),
        entry(offsets=[8, 0]), entry(offsets=[0]), entry(offsets=[0, 4, 8]),
        entry(offsets=[-8, 0]), entry(offsets="ab"), entry(offsets={"0": 0, "1": 8}),
        entry(offsets=[0, 2**80]), entry(shape="2"), entry(shape=[9999] * 60000),
    ],
)  # fmt: skip
def test_impossible_entries(described, tmp_path: Path) -> None:
    """A header entry that makes no sense is an error that names file and tensor."""
    path = written(tmp_path / "m.safetensors", {"a.weight": described}, b"\0" * 16)
    with pytest.raises(UnreadableError) as caught:
        read_checkpoint(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_truncated_data(tmp_path: Path) -> None:
    """A file that ends within a tensor is a truncated download, and says so."""
    path = written(tmp_path / "m.safetensors", {"a.weight": entry()}, b"\0" * 7)
    with pytest.raises(UnreadableError, match="ends at byte") as caught:
        read_checkpoint(path)
    assert "truncated download" in caught.value.hint


@pytest.mark.parametrize(
    ("header", "length"),
    [
        (b"{not json}", None),
        (b'{"a": 1', 1000),
        (b"{" * 100_000, None),
        (b'{"a":' * 100_000, None),
        (b"{\xff\xfe}", None),
        (b'{"a": ' + b"9" * 5000 + b"}", None),
        (b"{}", 1 << 39),
        (b'{"a.weight": 3}', None),
    ],
)
def test_damaged_headers(header, length, tmp_path: Path) -> None:
    """A header that is no JSON, too deep or not there is an error that names the file."""
    path = written(tmp_path / "m.safetensors", header, length=length)
    with pytest.raises(UnreadableError) as caught:
        read_checkpoint(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_header_past_the_limit(tmp_path: Path) -> None:
    """A header longer than the limit is refused."""
    path = written(tmp_path / "m.safetensors", {"a.weight": entry()}, b"\0" * 8)
    with pytest.raises(RefusedError, match="the limit is 20"):
        read_checkpoint(path, Limits(json_bytes=20))


@pytest.mark.parametrize("header", [{}, {"__metadata__": {"format": "pt"}}])
def test_no_tensors(header, tmp_path: Path) -> None:
    """A file without tensors has no model."""
    with pytest.raises(NoModelError):
        read_checkpoint(written(tmp_path / "m.safetensors", header))


def test_natural_order() -> None:
    """Numbers in names count as numbers, however long, and mix with words."""
    names = ["a.10", "a.9", "a.09.b", "a", "b.1", "a.x", "1.a", "a.99999999999999999999999"]
    assert sorted(names, key=natural_order) == [
        "1.a", "a", "a.9", "a.09.b", "a.10", "a.99999999999999999999999", "a.x", "b.1",
    ]  # fmt: skip
