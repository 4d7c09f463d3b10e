"""Boxes made to harm: bombs, names that lead out, links, archives in archives without end."""

import gzip
import io
import os
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from normcheck.errors import NoModelError, NormcheckError, RefusedError, UnreadableError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.sources.limits import Limits
from tests.formats.boxes.boxes import HEALTHY, PACKERS, Pack, gzipped, tarred

every_packer = pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
SMALL = Limits(unpacked_bytes=4 << 20)


@every_packer
@pytest.mark.parametrize("name", ["/etc/model.pt", "../model.pt", "a/../../model.pt", "C:/m.pt"])
def test_names_that_lead_out(pack: Pack, name: str, tmp_path: Path) -> None:
    """Refused, whoever would unpack it."""
    with pytest.raises(UnreadableError, match="leads out"):
        read_checkpoint(pack(tmp_path / "box", {name: HEALTHY}))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_are_not_followed(kind: bytes, tmp_path: Path) -> None:
    """A link to a checkpoint, in the archive or out of it, is no checkpoint; nor is a device."""
    secret = tmp_path / "secret.pt"
    secret.write_bytes(HEALTHY)
    with tarfile.open(tmp_path / "box.tar", "w") as archive:
        info = tarfile.TarInfo("model.pt")
        info.type, info.linkname = kind, str(secret)
        archive.addfile(info)
    with pytest.raises(NoModelError):
        read_checkpoint(tmp_path / "box.tar")


@every_packer
def test_nothing_is_unpacked(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading every number of a box opens no file for writing, in no folder."""
    path = pack(tmp_path / "box", {"model.pt": HEALTHY})
    opened = os.open

    def watched(name: object, flags: int, *rest: int, **more: int) -> int:
        assert not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT), name
        return opened(name, flags, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", watched)
    monkeypatch.setattr("tempfile.mkstemp", None)
    monkeypatch.setattr("tempfile.mkdtemp", None)
    checkpoint = read_checkpoint(path)
    for tensor in checkpoint.models[0].tensors.values():
        tensor.values()
    checkpoint.close()
    assert list(tmp_path.iterdir()) == [path]


def test_nested_without_end(tmp_path: Path) -> None:
    """Ten archives in each other are refused; three are read."""
    data = HEALTHY
    for depth in range(10):
        data = tarred(tmp_path / "t", {"model.pt": data}).read_bytes()
        path = tmp_path / f"{depth}.tar"
        path.write_bytes(data)
    assert read_checkpoint(tmp_path / "2.tar").models[0].where == "!model.pt" * 3
    with pytest.raises(RefusedError, match="nested"):
        read_checkpoint(tmp_path / "9.tar")


def test_nested_gzip(tmp_path: Path) -> None:
    """The same for gzip in gzip, which has no members."""
    data = HEALTHY
    for _ in range(10):
        data = gzip.compress(data)
    (tmp_path / "m.gz").write_bytes(data)
    with pytest.raises(NormcheckError):
        read_checkpoint(tmp_path / "m.gz")


@pytest.mark.parametrize("layer", ["gzip", "zip"])
def test_bomb(layer: str, tmp_path: Path) -> None:
    """What unpacks to hundreds of times its size is refused before it is all unpacked."""
    state = HEALTHY[:4] + bytes(64 << 20)
    if layer == "gzip":
        path = gzipped(tmp_path / "b.gz", state)
    else:
        path = PACKERS["deflated"](tmp_path / "b.zip", {"m.pt": state})
    with pytest.raises(RefusedError, match="are packed into"):
        read_checkpoint(path)


def test_all_layers_count_together(tmp_path: Path) -> None:
    """Thirty members that unpack to a megabyte each are past a limit of four."""
    noise = os.urandom(1 << 20)
    path = PACKERS["deflated"](
        tmp_path / "b.zip", {f"{i}.pt": HEALTHY[:30] + noise + bytes(i) for i in range(30)}
    )
    with pytest.raises((RefusedError, UnreadableError)):
        read_checkpoint(path, SMALL)
    many = PACKERS["deflated"](tmp_path / "m.zip", {f"{i}.pt": HEALTHY for i in range(60)})
    with pytest.raises(RefusedError, match="unpack"):
        read_checkpoint(many, SMALL)
    assert len(read_checkpoint(many).models) == 60


def test_declared_length_is_not_believed(tmp_path: Path) -> None:
    """A member that says it is longer or shorter than it is."""
    path = PACKERS["deflated"](tmp_path / "b.zip", {"m.pt": HEALTHY})
    data = path.read_bytes()
    length = struct.pack("<I", len(HEALTHY))
    for other in (len(HEALTHY) + 1, len(HEALTHY) - 1, 10, 1 << 30):
        path.write_bytes(data.replace(length, struct.pack("<I", other)))
        with pytest.raises(NormcheckError):
            read_checkpoint(path)


@pytest.mark.parametrize("pack", [PACKERS["tar"], PACKERS["tar.gz"]], ids=["tar", "tar.gz"])
def test_two_members_of_one_name(pack: Pack, tmp_path: Path) -> None:
    """Which one is unpacked depends on the program."""
    buffer = io.BytesIO()
    mode = "w:gz" if pack is PACKERS["tar.gz"] else "w"
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for _ in range(2):
            info = tarfile.TarInfo("model.pt")
            info.size = len(HEALTHY)
            archive.addfile(info, io.BytesIO(HEALTHY))
    (tmp_path / "box").write_bytes(buffer.getvalue())
    with pytest.raises(UnreadableError, match="more than once"):
        read_checkpoint(tmp_path / "box")


def test_endless_name(tmp_path: Path) -> None:
    """An extended header of megabytes is refused, not read into memory."""
    with tarfile.open(tmp_path / "box.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("n" * (2 << 20))
        archive.addfile(info)
    with pytest.raises(RefusedError, match="name of"):
        read_checkpoint(tmp_path / "box.tar")


def test_encrypted_member(tmp_path: Path) -> None:
    """Named as that."""
    path = PACKERS["stored"](tmp_path / "b.zip", {"m.pt": HEALTHY})
    data = bytearray(path.read_bytes())
    for sign, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[(data.rindex if at == 8 else data.index)(sign) + at] |= 1
    path.write_bytes(data)
    assert zipfile.ZipFile(path).infolist()[0].flag_bits & 1
    with pytest.raises(UnreadableError, match="encrypted"):
        read_checkpoint(path)
