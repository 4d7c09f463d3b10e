"""The zip files of ``torch.save``: where the pickle and the storages lie in them."""

import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from normcheck.errors import RefusedError, UnreadableError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.saved.checkpoint import Form
from normcheck.sources.limits import Limits
from normcheck.sources.source import FileSource
from tests.formats import by_hand as hand

FOUR = np.array([1, 2, 3, 4], "<f4").tobytes()
ONE_TENSOR = hand.pickled(hand.mapping({"a.weight": hand.tensor(hand.storage(), (4,), (1,))}))


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(2, 2))


def test_state_dict(read) -> None:
    """A plain state dict: all names in order, all values, the module versions."""
    state = model().state_dict()
    checkpoint = read(state)
    (found,) = checkpoint.models
    assert "torch zip" in checkpoint.format
    assert (found.form, found.where) == (Form.STATE_DICT, "")
    assert list(found.tensors) == list(state)
    for name, tensor in state.items():
        np.testing.assert_array_equal(found.tensors[name].values(), tensor.numpy())
    assert found.versions["1"] == 2
    assert found.modules is None


def test_size_and_name(read, save) -> None:
    """The checkpoint says the path and the length of its file."""
    path = save(model().state_dict())
    checkpoint = read(path)
    assert (checkpoint.name, checkpoint.size) == (str(path), path.stat().st_size)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickle_protocols(protocol, read_one, tmp_path: Path) -> None:
    """The pickle inside may be of any protocol that torch can be asked for."""
    state = model().state_dict()
    path = tmp_path / "model.pt"
    torch.save(state, path, pickle_protocol=protocol)
    found = read_one(path)
    np.testing.assert_array_equal(found.tensors["0.weight"].values(), state["0.weight"].numpy())


@pytest.mark.parametrize("name", ["model.pt", "ein.name.mit.punkten.ckpt", "ohne_endung", "ü é.pt"])
def test_root_folder_of_the_archive(name, save, read_one) -> None:
    """The folder inside is named after the file; any name will do."""
    assert read_one(save(model().state_dict(), name)).tensors["1.running_var"].shape == (4,)


def test_pickle_without_a_folder(read_one, tmp_path: Path) -> None:
    """An archive whose ``data.pkl`` lies at its top is read, too."""
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", ONE_TENSOR)
        archive.writestr("data/0", FOUR)
    assert read_one(path).tensors["a.weight"].values().tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("byteorder", "order"), [("little", "<"), ("big", ">"), ("big\n", ">"), (None, "<")]
)
@pytest.mark.parametrize(
    ("kind", "code"),
    [("FloatStorage", "f4"), ("DoubleStorage", "f8"), ("HalfStorage", "f2"), ("LongStorage", "i8"),
     ("ShortStorage", "i2"), ("ByteStorage", "u1"), ("ComplexFloatStorage", "c8")],
)  # fmt: skip
def test_byte_order(byteorder, order, kind, code, read_one, tmp_path: Path) -> None:
    """The archive's record decides the byte order; without one it is little-endian."""
    data = hand.pickled(
        hand.mapping({"a.weight": hand.tensor(hand.storage(kind=kind), (4,), (1,))})
    )
    raw = np.array([1, 2, 3, 100]).astype(order + code).tobytes()
    path = hand.torch_zip(tmp_path / "model.pt", data, {"0": raw}, byteorder=byteorder)
    assert read_one(path).tensors["a.weight"].values().tolist() == [1, 2, 3, 100]


def test_big_endian_bfloat16(read_one, tmp_path: Path) -> None:
    """The same for bfloat16, which numpy does not have."""
    stored = hand.storage(kind="BFloat16Storage")
    data = hand.pickled(hand.mapping({"a.weight": hand.tensor(stored, (4,), (1,))}))
    bits = torch.tensor([1, -2.5, 3, 100], dtype=torch.bfloat16).view(torch.uint16).numpy()
    path = hand.torch_zip(
        tmp_path / "model.pt", data, {"0": bits.astype(">u2").tobytes()}, byteorder="big"
    )
    assert read_one(path).tensors["a.weight"].values().tolist() == [1, -2.5, 3, 100]


@pytest.mark.parametrize("location", ["cuda:0", "mps", "xla:1", "npu:7"])
def test_devices_do_not_matter(location, read_one, tmp_path: Path) -> None:
    """Tensors that lived on an accelerator are read like any other."""
    stored = hand.storage(location=location)
    data = hand.pickled(hand.mapping({"a.weight": hand.tensor(stored, (4,), (1,))}))
    path = hand.torch_zip(tmp_path / "model.pt", data, {"0": FOUR})
    assert read_one(path).tensors["a.weight"].values().tolist() == [1, 2, 3, 4]


def test_packed_again_with_compression(read_one, save, tmp_path: Path) -> None:
    """An archive that somebody packed again with compression gives the same values."""
    state = model().state_dict()
    packed = tmp_path / "packed.pt"
    with (
        zipfile.ZipFile(save(state)) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for member in source.namelist():
            target.writestr(member, source.read(member))
    for name, tensor in read_one(packed).tensors.items():
        np.testing.assert_array_equal(tensor.values(), state[name].numpy())


def test_only_what_is_asked_for_is_read(save, monkeypatch) -> None:
    """Opening a file of megabytes reads kilobytes; a tensor's values read that tensor."""
    path = save({"big.weight": torch.zeros(1_000_000), "norm.weight": torch.ones(8)})
    total = 0
    original = FileSource.read_at

    def counted(self: FileSource, offset: int, length: int) -> bytes:
        nonlocal total
        total += length
        return original(self, offset, length)

    monkeypatch.setattr(FileSource, "read_at", counted)
    checkpoint = read_checkpoint(path)
    # zipfile looks for its directory within the last 64 KiB.
    assert total < 400_000
    total = 0
    assert checkpoint.models[0].tensors["norm.weight"].values().tolist() == [1] * 8
    assert total == 32
    checkpoint.close()


def test_shared_storage(read_one) -> None:
    """Tied tensors are seen to be tied, views of one storage to share it."""
    weight = torch.arange(12.0).reshape(3, 4)
    tensors = read_one({"a.weight": weight, "b.weight": weight, "c.weight": weight.t()[1]}).tensors
    assert tensors["a.weight"].storage is tensors["b.weight"].storage
    assert tensors["c.weight"].storage is tensors["a.weight"].storage
    assert tensors["c.weight"].values().tolist() == [1, 5, 9]


def test_metadata_of_an_ordered_dict_without_versions(read_one) -> None:
    """A state dict without ``_metadata`` has no versions, and is one all the same."""
    found = read_one(OrderedDict({"bn.running_mean": torch.zeros(2)}))
    assert (list(found.tensors), dict(found.versions)) == (["bn.running_mean"], {})


@pytest.mark.parametrize(
    ("storages", "words"),
    [
        ({}, "missing from the archive"),
        ({"0": FOUR[:-1]}, "the pickle says 16"),
        ({"1": FOUR}, "missing from the archive"),
    ],
)
def test_damaged_storages(storages, words, tmp_path: Path) -> None:
    """A storage that is missing or too short is an error that says which."""
    path = hand.torch_zip(tmp_path / "model.pt", ONE_TENSOR, storages)
    with pytest.raises(UnreadableError, match=words) as caught:
        read_checkpoint(path)
    assert str(path) in caught.value.message


@pytest.mark.parametrize(
    "stored",
    [
        hand.storage(numel=-1),
        hand.storage(kind="UnheardOfStorage"),
        hand.several(hand.text("storage")) + b"Q",
        hand.text("storage") + b"Q",
        hand.several(*[hand.number(0)] * 5) + b"Q",
        hand.several(
            hand.text("storage"), hand.name("torch", "FloatStorage"), hand.listed(hand.TRUE),
            hand.text("cpu"), hand.number(4),
        ) + b"Q",
        hand.storage(key="../../" * 50),
        hand.number(7),
    ],
)  # fmt: skip
def test_impossible_storages(stored: bytes, tmp_path: Path) -> None:
    """A persistent id that torch does not write is an error with a hint."""
    data = hand.pickled(hand.mapping({"a.weight": hand.tensor(stored, (4,), (1,))}))
    with pytest.raises(UnreadableError) as caught:
        read_checkpoint(hand.torch_zip(tmp_path / "model.pt", data, {"0": FOUR}))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("member", "change"),
    [("model/data.pkl", "method"), ("model/data/0", "method"), ("model/data.pkl", "encrypted"),
     ("model/data/0", "encrypted"), ("model/byteorder", "encrypted")],
)  # fmt: skip
def test_packing_that_torch_never_uses(member: str, change: str, tmp_path: Path) -> None:
    """Encrypted members and rare compressions are refused by name."""
    path = hand.torch_zip(tmp_path / "model.pt", ONE_TENSOR, {"0": FOUR})
    raw = bytearray(path.read_bytes())
    at = raw.rindex(member.encode()) - 46  # the entry in the archive's directory
    assert raw[at : at + 4] == b"PK\x01\x02"
    if change == "method":
        raw[at + 10 : at + 12] = struct.pack("<H", zipfile.ZIP_LZMA)
    else:
        raw[at + 8] |= 1
    path.write_bytes(raw)
    with pytest.raises(UnreadableError, match=f"{member} is") as caught:
        read_checkpoint(path)
    assert caught.value.hint


def test_damaged_compression_of_a_storage(tmp_path: Path) -> None:
    """Damage within a compressed storage shows when its values are read, as our error."""
    path = hand.torch_zip(
        tmp_path / "model.pt", ONE_TENSOR, {"0": FOUR}, compression=zipfile.ZIP_DEFLATED
    )
    raw = path.read_bytes()
    at = raw.index(b"model/data/0") + len(b"model/data/0")
    path.write_bytes(raw[:at] + b"\xff" * 4 + raw[at + 4 :])
    checkpoint = read_checkpoint(path)
    with pytest.raises(UnreadableError, match="cannot be unpacked"):
        checkpoint.models[0].tensors["a.weight"].values()
    checkpoint.close()


def test_compression_bomb(tmp_path: Path) -> None:
    """A pickle that unpacks to hundreds of times its size is refused before it is unpacked."""
    bomb = hand.pickled(b"]" * 10_000_000)
    path = hand.torch_zip(tmp_path / "bomb.pt", bomb, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    with pytest.raises(RefusedError, match="packed into"):
        read_checkpoint(path)


def test_pickle_past_the_limit(tmp_path: Path) -> None:
    """A pickle longer than the limit is refused."""
    path = hand.torch_zip(tmp_path / "model.pt", ONE_TENSOR, {"0": FOUR})
    with pytest.raises(RefusedError, match="the limit is 10"):
        read_checkpoint(path, Limits(pickle_bytes=10))


def test_a_pickle_out_of_an_archive_says_where_its_tensors_are(save, tmp_path: Path) -> None:
    """Some browsers unpack what they download: packed again, it is read like before."""
    path = save(model().state_dict())
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "unpacked")
    (alone,) = (tmp_path / "unpacked").rglob("data.pkl")
    with pytest.raises(UnreadableError, match=r"torch\.save wrote") as caught:
        read_checkpoint(alone)
    assert "zip -0 -r" in caught.value.hint
    again = tmp_path / "again.pt"
    with zipfile.ZipFile(again, "w") as archive:
        for file in sorted((tmp_path / "unpacked").rglob("*")):
            archive.write(file, file.relative_to(tmp_path / "unpacked"))
    there, here = (read_checkpoint(file).models[0].tensors for file in (again, path))
    assert list(there) == list(here)


@pytest.mark.parametrize(
    "as_text",
    [
        lambda data: data.decode("utf-8", "replace").encode(),
        lambda data: bytes(byte if byte < 0x80 and byte else 0x20 for byte in data),
    ],
    ids=["replacement characters", "spaces"],
)
def test_bytes_that_were_taken_for_text(save, tmp_path: Path, as_text) -> None:
    """A download that an editor or a transfer mode has rewritten was not cut off."""
    damaged = tmp_path / "damaged.pt"
    damaged.write_bytes(as_text(save(model().state_dict()).read_bytes()))
    with pytest.raises(UnreadableError) as caught:
        read_checkpoint(damaged)
    assert "as binary" in caught.value.hint


def test_an_archive_that_was_cut_off(save, tmp_path: Path) -> None:
    """Its beginning is as it was: the hint is another one."""
    data = save(model().state_dict()).read_bytes()
    (tmp_path / "half.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(UnreadableError) as caught:
        read_checkpoint(tmp_path / "half.pt")
    assert "truncated download" in caught.value.hint
