"""What joblib packs: by zlib unless it is told otherwise, and by all that it knows."""

import zlib
from pathlib import Path

import pytest
import torch

import normcheck
from normcheck.errors import NoModelError, RefusedError, UnknownFormatError, UnreadableError
from normcheck.formats.boxes.inflated import GZIP, ZLIB, framing_of
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.sources.limits import Limits
from tests.conftest import SAMPLES
from tests.formats.boxes.boxes import FOREIGN, HEALTHY
from tests.verdict import accused

joblib = pytest.importorskip("joblib")


def dumped(path: Path, name: str, compress: object) -> Path:
    """A sample, as joblib writes it."""
    joblib.dump(torch.load(SAMPLES / f"{name}.pt", weights_only=True), path, compress=compress)
    return path


@pytest.mark.parametrize(
    ("compress", "packing"),
    [
        (3, "zlib"), (1, "zlib"), (9, "zlib"), (("zlib", 6), "zlib"), (("gzip", 3), "gzip"),
        (("bz2", 3), "bzip2"), (("lzma", 3), "LZMA"), (("xz", 3), "xz"),
    ],
)  # fmt: skip
def test_whatever_it_is_packed_by(compress: object, packing: str, tmp_path: Path) -> None:
    """The verdict is that of the file, sick or healthy."""
    assert not accused(dumped(tmp_path / "healthy.pkl", "digits-healthy", compress))
    assert "NC108" in accused(dumped(tmp_path / "sick.pkl", "foreign-statistics", compress))
    checkpoint = read_checkpoint(tmp_path / "sick.pkl")
    assert checkpoint.format == f"pickle, packed by {packing}"
    checkpoint.close()


@pytest.mark.parametrize("suffix", [".gz", ".z", ".bz2", ".xz", ".lzma"])
def test_a_name_tells_how_to_pack_it(suffix: str, tmp_path: Path) -> None:
    """And a folder is searched for such names."""
    dumped(tmp_path / f"model.pkl{suffix}", "digits-healthy", 0)
    dumped(tmp_path / f"other.joblib{suffix}", "foreign-statistics", 0)
    report = normcheck.scan(tmp_path)
    assert len(report.models) == 2
    assert {finding.rule for finding in report.findings} >= {"NC108"}


def test_data_beside_models_are_passed_over(tmp_path: Path) -> None:
    """Packed alike, and no damage: named outright they are an error with a reason."""
    joblib.dump({"mean": [1.0, 2.0]}, tmp_path / "scaler.pkl.z")
    (tmp_path / "table.pkl.gz").write_bytes(zlib.compress(b"just some words"))
    dumped(tmp_path / "model.pkl", "digits-healthy", 3)
    report = normcheck.scan(tmp_path)
    assert not report.errors
    assert len(report.models) == 1
    with pytest.raises(NoModelError, match="holds no model"):
        read_checkpoint(tmp_path / "scaler.pkl.z")
    with pytest.raises(UnknownFormatError, match="with zlib, and no checkpoint inside") as caught:
        read_checkpoint(tmp_path / "table.pkl.gz")
    assert caught.value.hint


def test_nothing_of_it_is_run(tmp_path: Path) -> None:
    """A packed pickle is a pickle."""
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (marker,)

    joblib.dump({"a": Evil(), "model": torch.load(SAMPLES / "digits-healthy.pt")},
                tmp_path / "m.pkl", compress=3)  # fmt: skip
    read_checkpoint(tmp_path / "m.pkl").close()
    assert not marker.exists()


@pytest.mark.parametrize("level", [1, 6, 9])
def test_torch_files_in_it(level: int, tmp_path: Path) -> None:
    """Whatever is packed is read."""
    for data, codes in ((HEALTHY, set()), (FOREIGN, {"NC108"})):
        (tmp_path / "m.pt.z").write_bytes(zlib.compress(data, level))
        assert accused(tmp_path / "m.pt.z") >= codes
        assert bool(accused(tmp_path / "m.pt.z")) is bool(codes)


def test_damaged(tmp_path: Path) -> None:
    """Cut anywhere, other bytes, a wrong checksum, more behind it."""
    packed = zlib.compress(HEALTHY)
    wrong = packed[:-1] + bytes([packed[-1] ^ 1])
    cut = [packed[:end] for end in (100, len(packed) // 2, len(packed) - 1)]
    for data in (*cut, wrong, packed[: len(packed) // 2] + bytes(len(packed) // 2), 2 * packed):
        (tmp_path / "m").write_bytes(data)
        with pytest.raises(UnreadableError, match="cannot be unpacked"):
            read_checkpoint(tmp_path / "m")


def test_bounded(tmp_path: Path) -> None:
    """A bomb, one bomb in another, and a limit of the user's."""
    (tmp_path / "bomb").write_bytes(zlib.compress(HEALTHY[:4] + bytes(256 << 20)))
    with pytest.raises(RefusedError, match="are packed into"):
        read_checkpoint(tmp_path / "bomb")
    (tmp_path / "m").write_bytes(zlib.compress(HEALTHY))
    with pytest.raises(RefusedError, match="unpack"):
        read_checkpoint(tmp_path / "m", Limits(unpacked_bytes=len(HEALTHY) - 1))
    data = HEALTHY
    for _ in range(10):
        data = zlib.compress(data)
    (tmp_path / "nested").write_bytes(data)
    with pytest.raises(RefusedError, match="nested"):
        read_checkpoint(tmp_path / "nested")


def test_a_text_may_begin_so() -> None:
    """``x^2 + 1`` is no packed file."""
    assert framing_of(zlib.compress(b"anything")) == ZLIB
    assert framing_of(b"\x1f\x8b\x08\x00") == GZIP
    assert framing_of(b"x^2 + y^2 = 1, of a circle about nothing, and so on for a while") is None
    assert framing_of(b"x\x01") is None


def test_lz4_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(b"\x04\x22\x4d\x18" + bytes(60))
    with pytest.raises(UnreadableError, match="lz4") as caught:
        read_checkpoint(tmp_path / "m.pkl")
    assert "lz4 -d" in caught.value.hint
