"""Directories read in columns: what ``zipfile`` reads, or nothing."""

import io
import random
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from normcheck.errors import UnreadableError
from normcheck.formats.zip_directory import Directory, read_directory
from normcheck.formats.zip_members import find, find_named, open_archive
from normcheck.sources.limits import Budget
from normcheck.sources.source import MemorySource
from tests.formats.archives import Member, archive
from tests.fuzz.mutate import mutated

_TOLD = ("filename", "orig_filename", "flag_bits", "compress_type", "CRC", "compress_size",
         "file_size", "header_offset")  # fmt: skip


def by_zipfile(data: bytes) -> list[tuple[object, ...]]:
    with zipfile.ZipFile(io.BytesIO(data)) as read:
        return [tuple(getattr(member, name) for name in _TOLD) for member in read.infolist()]


def in_columns(data: bytes) -> list[tuple[object, ...]] | None:
    found = read_directory(MemorySource(data, "m"), Budget())
    if found is None:
        return None
    assert found.infolist() is not None
    assert [member.filename for member in found.infolist()] == found.namelist()
    return [tuple(getattr(member, name) for name in _TOLD) for member in found.infolist()]


def by_torch() -> bytes:
    saved = io.BytesIO()
    torch.save({f"l.{number}.weight": torch.ones(number) for number in range(9)}, saved)
    return saved.getvalue()


def by_python(*, comment: bytes = b"") -> bytes:
    saved = io.BytesIO()
    with zipfile.ZipFile(saved, "w", zipfile.ZIP_DEFLATED) as made:
        for number in range(5):
            with made.open(f"m/é{number}", "w", force_zip64=number % 2 == 0) as member:
                member.write(bytes(number * 100))
        made.comment = comment
    return saved.getvalue()


def past_4_gb() -> bytes:
    """A directory whose numbers stand in extra fields, as of an archive of many gigabytes."""
    far = 5 << 30
    extra = struct.pack("<HHQQQ", 1, 24, far, far + 1, 7)
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 45, 45, 0, 0, 0, 0x21, 9, *[0xFFFF_FFFF] * 2,
                        1, len(extra), 0, 0, 0, 0, 0xFFFF_FFFF) + b"a" + extra  # fmt: skip
    end = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, len(entry), 0)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, len(entry), 1)
    last = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(entry), 0, 0)
    return entry + end + locator + last


@pytest.mark.parametrize("make", [by_torch, by_python, past_4_gb])
def test_usual_archives(make) -> None:
    """Archives of torch and of Python are read in columns, and as ``zipfile`` reads them."""
    data = make()
    assert in_columns(data) == by_zipfile(data) != []


@pytest.mark.parametrize(
    "data",
    [
        by_python(comment=b"hello"),
        b"before" + by_python(),
        by_python() + b"behind",
        archive([Member(b"a", b"1"), Member(b"a", b"2")]),
        archive([Member(b"a\0b", b"1")]),
        b"",
        b"PK\5\6",
    ],
    ids=["comment", "before", "behind", "twice", "nul", "empty", "short"],
)
def test_unusual_archives_are_left(data: bytes) -> None:
    """What is out of the ordinary is read by ``zipfile``, which has its own words for it."""
    assert in_columns(data) is None


@pytest.mark.parametrize("make", [by_torch, by_python, past_4_gb])
def test_damaged_archives(make) -> None:
    """Whatever is read in columns of a damaged archive, ``zipfile`` reads the same."""
    data, chance, both = make(), random.Random(0), 0  # noqa: S311
    tail = max(0, len(data) - 1500)
    for number in range(600):
        changed = bytearray(data)
        if number % 2:
            for _ in range(chance.randrange(1, 3)):
                changed[chance.randrange(tail, len(changed))] = chance.choice((0, 1, 255, 44, 80))
        else:
            changed[tail:] = mutated([data[tail:]], chance)
        found = in_columns(bytes(changed))
        if found is not None:
            both += 1
            assert found == by_zipfile(bytes(changed))
    assert both > 50


def test_headers_are_held_against_the_directory(tmp_path: Path) -> None:
    """A member is where its own header says, near the one before or far from it; or an error."""
    members = [Member(f"m/{n}".encode(), bytes(n * 700), extra=bytes(n)) for n in range(9)]
    for changed in (None, 5):
        if changed is not None:
            members[changed] = Member(b"m/X", b"1234", listed_name=b"m/5")
        source = MemorySource(archive(members), "m")
        directory = open_archive(source)
        assert isinstance(directory, Directory)
        for number, member in enumerate(members):
            name = f"m/{number}"
            if number == changed:
                with pytest.raises(UnreadableError, match="disagree"):
                    find_named(source, directory, name, Budget())
                continue
            region = find_named(source, directory, name, Budget())
            alone = find(source, directory.getinfo(name), Budget())
            assert region.nbytes == alone.nbytes == len(member.data)
            assert region.read(0, region.nbytes) == member.data
        with pytest.raises(KeyError):
            find_named(source, directory, "m/none", Budget())
