"""Files packed whole: read in memory, bounded; zstd named where it is missing."""

import bz2
import io
import lzma
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from normcheck.errors import RefusedError, UnreadableError
from normcheck.formats.boxes.packed_whole import packing_of
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.sources.limits import Limits
from tests.formats.boxes.boxes import FOREIGN, HEALTHY, tarred
from tests.verdict import accused

HAS_ZSTD = sys.version_info >= (3, 14)


def zstd(data: bytes) -> bytes:
    if HAS_ZSTD:
        from compression import zstd as library  # type: ignore[import-not-found,unused-ignore]

        return bytes(library.compress(data))
    packed: bytes = pytest.importorskip("zstandard").ZstdCompressor().compress(data)
    return packed


PACK: dict[str, Callable[[bytes], bytes]] = {
    "zstd": zstd,
    "xz": lzma.compress,
    "LZMA": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
}
every_packing = pytest.mark.parametrize("packing", PACK)


@every_packing
def test_checkpoint(packing: str, tmp_path: Path) -> None:
    """One file, packed by itself: the verdict is that of the file."""
    for data, codes in ((HEALTHY, set()), (FOREIGN, {"NC108"})):
        path = tmp_path / "model.pt.packed"
        path.write_bytes(PACK[packing](data))
        assert packing_of(path.read_bytes()[:14]) == packing
        assert accused(path) >= codes
        assert bool(accused(path)) is bool(codes)


@every_packing
def test_archive(packing: str, tmp_path: Path) -> None:
    """A tar in it, and what is in that; the report says how it was packed."""
    data = tarred(tmp_path / "t", {"model.pt": HEALTHY}).read_bytes()
    (tmp_path / "box").write_bytes(PACK[packing](data))
    checkpoint = read_checkpoint(tmp_path / "box")
    assert [model.where for model in checkpoint.models] == ["!model.pt"]
    assert checkpoint.format.endswith(f"packed by {packing}")
    checkpoint.close()


@every_packing
def test_several_streams(packing: str, tmp_path: Path) -> None:
    """As the packers that use several processors write them."""
    half = len(HEALTHY) // 2
    pack = PACK[packing]
    (tmp_path / "m").write_bytes(pack(HEALTHY[:half]) + pack(HEALTHY[half:]))
    assert not accused(tmp_path / "m")


@every_packing
def test_damaged(packing: str, tmp_path: Path) -> None:
    """Cut anywhere, or with other bytes: an error that names the file."""
    packed = PACK[packing](HEALTHY)
    for end in (8, 100, len(packed) // 2, len(packed) - 1):
        (tmp_path / "m").write_bytes(packed[:end])
        with pytest.raises(UnreadableError, match=str(tmp_path / "m")):
            read_checkpoint(tmp_path / "m")
    (tmp_path / "m").write_bytes(packed[: len(packed) // 2] + bytes(len(packed) // 2))
    with pytest.raises(UnreadableError):
        read_checkpoint(tmp_path / "m")


@every_packing
def test_bomb(packing: str, tmp_path: Path) -> None:
    """Refused before it is all unpacked."""
    (tmp_path / "m").write_bytes(PACK[packing](HEALTHY[:4] + bytes(256 << 20)))
    with pytest.raises(RefusedError, match="are packed into"):
        read_checkpoint(tmp_path / "m")


@every_packing
def test_memory_counts(packing: str, tmp_path: Path) -> None:
    """What is held unpacked is memory of the file's."""
    (tmp_path / "m").write_bytes(PACK[packing](HEALTHY))
    with pytest.raises(RefusedError, match="memory"):
        read_checkpoint(tmp_path / "m", Limits(memory_bytes=len(HEALTHY) - 1))
    with pytest.raises(RefusedError, match="unpack"):
        read_checkpoint(tmp_path / "m", Limits(unpacked_bytes=len(HEALTHY) - 1))


@every_packing
def test_within_each_other(packing: str, tmp_path: Path) -> None:
    """Ten layers are refused, as of any archives."""
    data = HEALTHY
    for _ in range(10):
        data = PACK[packing](data)
    (tmp_path / "m").write_bytes(data)
    with pytest.raises(RefusedError, match="nested"):
        read_checkpoint(tmp_path / "m")


@every_packing
def test_something_else(packing: str, tmp_path: Path) -> None:
    """What is packed is looked at."""
    (tmp_path / "m").write_bytes(PACK[packing](b"just some words"))
    with pytest.raises(UnreadableError, match="no checkpoint inside") as caught:
        read_checkpoint(tmp_path / "m")
    assert caught.value.hint


def test_a_member(tmp_path: Path) -> None:
    """A packed checkpoint in an archive."""
    data = lzma.compress(HEALTHY)
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        info = tarfile.TarInfo("model.pt.xz")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    (tmp_path / "box.tar").write_bytes(raw.getvalue())
    checkpoint = read_checkpoint(tmp_path / "box.tar")
    assert [model.where for model in checkpoint.models] == ["!model.pt.xz"]
    checkpoint.close()


@pytest.mark.skipif(HAS_ZSTD, reason="Python unpacks zstd by itself")
def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint says what to install."""
    monkeypatch.setitem(sys.modules, "zstandard", None)
    (tmp_path / "model.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(60))
    with pytest.raises(UnreadableError, match="packed by zstd") as caught:
        read_checkpoint(tmp_path / "model.tar.zst")
    assert "normcheck[zstandard]" in caught.value.hint


def test_nothing_is_written(tmp_path: Path, read: Any) -> None:
    """All of it is in memory."""
    (tmp_path / "m.xz").write_bytes(lzma.compress(HEALTHY))
    (model,) = read(tmp_path / "m.xz").models
    for tensor in model.tensors.values():
        tensor.values()
    assert [path.name for path in tmp_path.iterdir()] == ["m.xz"]
