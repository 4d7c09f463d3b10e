"""Archives that were made to be read in two ways, or to be unpacked for ever."""

import io
import json
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from normcheck.errors import RefusedError, UnreadableError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.sources.limits import Limits
from tests.conftest import PATIENCE
from tests.formats import by_hand as hand
from tests.formats.archives import Member, archive, changed
from tests.formats.watched import FLOATS, MODEL

pytestmark = pytest.mark.posix

STATE = hand.pickled(hand.mapping({"a.weight": MODEL}))
OTHER = struct.pack("<4f", 9, 9, 9, 9)
GOOD = [Member(b"m/data.pkl", STATE), Member(b"m/byteorder", b"little"),
        Member(b"m/data/0", FLOATS)]  # fmt: skip
NOISE = np.random.default_rng(0).bytes(1 << 12)


def evil(marker: Path) -> bytes:
    return hand.pickled(hand.call(hand.name("os", "system"), hand.text(f"touch {marker}")))


def fine(marker: Path) -> dict[str, bytes]:
    """Odd, and to be read rightly all the same."""
    return {
        "as usual": archive(GOOD),
        "data descriptors": archive([Member(m.name, m.data, descriptor=True) for m in GOOD]),
        "deflated": archive([Member(m.name, m.data, 8) for m in GOOD]),
        "deflated with descriptors": archive(
            [Member(m.name, m.data, 8, descriptor=True) for m in GOOD]
        ),
        "directory backwards": archive(GOOD, order=[2, 1, 0]),
        "storages before the pickle": archive(GOOD[::-1]),
        "paths outside": archive(
            [*GOOD, Member(b"m/../../outside", b"x"), Member(b"/etc/outside", b"x"),
             Member(b"C:\\outside", b"x")]
        ),
        "a symlink": archive([*GOOD, Member(b"m/link", b"/etc/passwd", attributes=0o120777 << 16)]),
        "another pickle deeper": archive([*GOOD, Member(b"m/x/data.pkl", evil(marker))]),
        "pickles of other names": archive(
            [*GOOD, Member(b"m/config.p", evil(marker)), Member(b"m/data.pkl ", evil(marker)),
             Member(b"m/readme.txt", evil(marker))]
        ),
        "a pickle for a storage": archive([*GOOD, Member(b"m/data/1", evil(marker))]),
        "an unlisted pickle": archive([Member(b"m/data.pkl", evil(marker), listed=False), *GOOD]),
        "checksums never counted": archive(
            [Member(m.name, m.data, checksum=0) for m in GOOD]
        ),
    }  # fmt: skip


def refused(marker: Path) -> dict[str, tuple[bytes, str]]:
    """Ambiguous, damaged or closed: the error says which."""
    zeros = bytes(1 << 24)
    huge = hand.pickled(
        hand.mapping({"a.weight": hand.tensor(hand.storage(numel=1 << 22), (1 << 22,), (1,))})
    )
    return {
        "a name twice": (archive([*GOOD, Member(b"m/data/0", OTHER)]), "more than once"),
        "a pickle twice": (archive([Member(b"m/data.pkl", evil(marker)), *GOOD]), "more than once"),
        "a pickle in other letters": (
            archive([Member(b"m/DATA.PKL", evil(marker)), *GOOD]), "which one a program reads"
        ),
        "a storage in other letters": (
            archive([*GOOD, Member(b"m/Data/0", OTHER)]), "which one a program reads"
        ),
        "two roots": (archive([*GOOD, Member(b"n/data.pkl", evil(marker))]), "several pickles"),
        "other name in the header": (
            archive(changed(GOOD, 0, listed_name=b"m/data.pkl", name=b"m/evil.pkl")), "disagree"
        ),
        "other name of the storage": (
            archive(changed(GOOD, 2, listed_name=b"m/data/0", name=b"m/data/9")), "disagree"
        ),
        "stored, says the directory": (
            archive(changed(GOOD, 2, method=8, listed_method=0)), "disagree"
        ),
        "deflated, says the directory": (
            archive(changed(GOOD, 0, listed_method=8)), "disagree"
        ),
        "encrypted": (archive(changed(GOOD, 0, flags=1)), "encrypted"),
        "encrypted, says the directory": (archive(changed(GOOD, 0, listed_flags=1)), "encrypted"),
        "encrypted, says the header": (
            archive(changed(GOOD, 2, flags=1, listed_flags=0)), "disagree"
        ),
        "strongly encrypted": (archive(changed(GOOD, 2, flags=0x41)), "encrypted"),
        "another method": (archive(changed(GOOD, 0, method=14)), "unusual method"),
        "wrong checksum of the pickle": (archive(changed(GOOD, 0, checksum=7)), "checksum"),
        "wrong checksum of a storage": (archive(changed(GOOD, 2, checksum=7)), "checksum"),
        "wrong checksum, deflated": (
            archive(changed(GOOD, 2, checksum=7, method=8)), "checksum"
        ),
        "longer than the file": (archive(changed(GOOD, 2, listed_size=1 << 30)), "outside"),
        "a path for the storage": (
            archive([Member(b"m/data.pkl", STATE.replace(hand.text("0"), hand.text("../0"))),
                     *GOOD[1:]]), "missing from the archive"
        ),
        "a bomb for a pickle": (
            archive(changed(GOOD, 0, data=STATE[:-1] + b"0" + b"N" * (1 << 22), method=8)),
            "packed into",
        ),
        "a bomb for a storage": (
            archive([Member(b"m/data.pkl", huge), Member(b"m/data/0", zeros, 8)]), "packed into"
        ),
        "a bomb that says it is small": (
            archive([GOOD[0], Member(b"m/data/0", zeros, 8, listed_size=16)]), "cannot be unpacked"
        ),
        "polyglot of a pickle first": (archive(GOOD, before=evil(marker)), "no model"),
    }  # fmt: skip


def test_odd_archives(marker: Path, folder: Path, read_all: Any) -> None:
    """What other programs write, and what they hide beside a model: the model, nothing else."""
    files = fine(marker)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    outcomes = read_all()
    assert [outcomes[name][0] for name in files] == [[""]] * len(files)
    for name in files:
        checkpoint = read_checkpoint(folder / name)
        np.testing.assert_array_equal(
            checkpoint.models[0].tensors["a.weight"].values(), [1, 2, 3, 4]
        )
        checkpoint.close()


def numbers(path: Path) -> Any:
    checkpoint = read_checkpoint(path)
    try:
        return checkpoint.models[0].tensors["a.weight"].values()
    finally:
        checkpoint.close()


def test_archives_that_are_refused(marker: Path, folder: Path, read_all: Any) -> None:
    """Each with an error that says what is wrong; none with a guess."""
    files = refused(marker)
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    outcomes = read_all()
    for name, (_, word) in files.items():
        assert str(outcomes[name][0]).endswith("Error"), (name, outcomes[name])
        with pytest.raises(UnreadableError, match=word):
            numbers(folder / name)


def test_polyglots(marker: Path, folder: Path, read_all: Any) -> None:
    """Files that are of several formats at once are read as the one of their first bytes."""
    header = json.dumps({"a.weight": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}})
    tensors = struct.pack("<Q", len(header)) + header.encode() + FLOATS
    legacy = hand.legacy_file(folder / "legacy", hand.mapping({"a.weight": MODEL}),
                              {"0": (4, FLOATS)}).read_bytes()  # fmt: skip
    # A header of 0x280 bytes begins like a pickle of protocol 2.
    wide = struct.pack("<Q", 0x0280) + header.ljust(0x0280).encode() + FLOATS
    files = {
        "legacy and zip": legacy + archive(GOOD, before=b""),
        "legacy and pickle": legacy + evil(marker),
        "safetensors and zip": tensors + archive(GOOD),
        "safetensors like a pickle": wide,
        "pickle and pickle": hand.pickled(b"N") + evil(marker),
        "zip and safetensors": archive(GOOD) + tensors,
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    outcomes = {name: outcome for name, (outcome, _) in read_all().items()}
    assert outcomes["legacy and zip"] == outcomes["legacy and pickle"] == [""]
    assert outcomes["safetensors and zip"] == "UnreadableError"  # bytes behind the last tensor
    assert outcomes["safetensors like a pickle"] == [""]
    assert outcomes["pickle and pickle"] == "NoModelError"
    checkpoint = read_checkpoint(folder / "legacy and pickle")
    assert checkpoint.notes == (f"{len(evil(marker)):,} bytes behind its end were not read",)
    checkpoint.close()


@pytest.mark.skipif(
    not hasattr(torch.serialization, "set_crc32_options"), reason="this torch always counts them"
)
def test_files_without_checksums(tmp_path: Path) -> None:
    """What torch saves where it is told not to count checksums is read, and the report says so."""
    path = tmp_path / "model.pt"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a.weight": torch.arange(4.0)}, path)
    finally:
        torch.serialization.set_crc32_options(True)
    checkpoint = read_checkpoint(path)
    assert checkpoint.models[0].tensors["a.weight"].values().tolist() == [0, 1, 2, 3]
    assert checkpoint.notes == ("saved without checksums: damage would not show",)
    checkpoint.close()


def test_every_bit_of_an_archive(tmp_path: Path) -> None:
    """Any bit of a storage the other way is said; never are other numbers shown."""
    whole = archive(GOOD)
    start = whole.index(FLOATS)
    path = tmp_path / "model.pt"
    for bit in range(8 * len(FLOATS)):
        damaged = bytearray(whole)
        damaged[start + bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        checkpoint = read_checkpoint(path)
        with pytest.raises(UnreadableError, match="checksum of m/data/0 is wrong"):
            checkpoint.models[0].tensors["a.weight"].values()
        checkpoint.close()


@pytest.mark.parametrize("method", [0, 8])
def test_part_of_a_storage(method: int, tmp_path: Path) -> None:
    """A tensor over a part of a long storage: all of it is held against the checksum."""
    data = NOISE * 1024  # 4 MB, which deflates to little
    body = hand.tensor(hand.storage(numel=len(data) // 4), (2,), (1,), offset=1 << 19)
    members = [Member(b"m/data.pkl", hand.pickled(hand.mapping({"a.weight": body}))),
               Member(b"m/data/0", data, method)]  # fmt: skip
    path = tmp_path / "model.pt"
    path.write_bytes(archive(members))
    checkpoint = read_checkpoint(path)
    expected = np.frombuffer(data, "<f4")[1 << 19 : (1 << 19) + 2]
    found = checkpoint.models[0].tensors["a.weight"].values()
    assert found.tobytes() == expected.tobytes()
    checkpoint.close()
    path.write_bytes(archive(changed(members, 1, checksum=7)))
    checkpoint = read_checkpoint(path)
    with pytest.raises(UnreadableError, match="checksum"):
        checkpoint.models[0].tensors["a.weight"].values()
    checkpoint.close()


def test_unpacking_again_and_again(tmp_path: Path) -> None:
    """What is unpacked counts each time, so that a thousand tensors in one member end."""
    data = NOISE * 1024
    body = hand.tensor(hand.storage(numel=len(data) // 4), (2,), (1,))
    path = tmp_path / "model.pt"
    path.write_bytes(
        archive([Member(b"m/data.pkl", hand.pickled(hand.mapping({"a.weight": body}))),
                 Member(b"m/data/0", data, 8)])
    )  # fmt: skip
    checkpoint = read_checkpoint(path, Limits(unpacked_bytes=3 * len(data)))
    tensor = checkpoint.models[0].tensors["a.weight"]
    for _ in range(3):
        tensor.values()
    with pytest.raises(RefusedError) as caught:
        tensor.values()
    assert caught.value.limit == "unpacked_bytes"
    checkpoint.close()


def test_directory_of_a_million_members(tmp_path: Path) -> None:
    """An archive of very many members is refused before they become objects."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as target:
        for number in range(3_000):
            target.writestr(f"m/{number}", b"")
    path = tmp_path / "model.pt"
    path.write_bytes(raw.getvalue())
    with pytest.raises(RefusedError) as caught:
        read_checkpoint(path, Limits(memory_bytes=1 << 20))
    assert "--limit memory-bytes=N" in caught.value.hint


def test_file_that_changes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overwritten between the directory and the numbers: the checksum says so."""
    monkeypatch.setattr("normcheck.sources.source._WHOLE_BYTES", 0)
    path = tmp_path / "model.pt"
    path.write_bytes(archive(GOOD))
    checkpoint = read_checkpoint(path)
    with path.open("r+b") as target:
        target.seek(archive(GOOD).index(FLOATS))
        target.write(OTHER)
    with pytest.raises(UnreadableError, match="checksum"):
        checkpoint.models[0].tensors["a.weight"].values()
    os.truncate(path, 50)
    with pytest.raises(UnreadableError, match="ends early"):
        checkpoint.models[0].tensors["a.weight"].values()
    checkpoint.close()


def test_small_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    """It is read at once, so all that is said of it is of one state."""
    path = tmp_path / "model.pt"
    path.write_bytes(archive(GOOD))
    checkpoint = read_checkpoint(path)
    before = checkpoint.models[0].tensors["a.weight"].values()
    os.truncate(path, 50)
    assert (checkpoint.models[0].tensors["a.weight"].values() == before).all()
    checkpoint.close()


def test_the_archives_are_real(marker: Path, tmp_path: Path) -> None:
    """The pickle that is hidden in them runs where it is loaded."""
    (tmp_path / "evil.pkl").write_bytes(evil(marker))
    load = f"import pickle; pickle.load(open({str(tmp_path / 'evil.pkl')!r}, 'rb'))"
    subprocess.run([sys.executable, "-c", load], check=True, timeout=PATIENCE)
    assert marker.exists()
