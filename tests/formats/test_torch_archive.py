"""Archives that torch refuses: said of each that it does refuse, and of no other."""

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import normcheck
from normcheck.formats.read_checkpoint import read_checkpoint

from . import by_hand as hand
from .archives import Member, archive
from .watched import FLOATS, MODEL

STATE = hand.pickled(hand.mapping({"a.weight": MODEL}))
PARTS = [Member(b"m/data.pkl", STATE), Member(b"m/byteorder", b"little"),
         Member(b"m/data/0", FLOATS)]  # fmt: skip
GOOD = [*PARTS, Member(b"m/version", b"3\n")]


def _renamed(how: Callable[[bytes], bytes]) -> list[Member]:
    return [replace(member, name=how(member.name)) for member in GOOD]


def _version(text: bytes) -> list[Member]:
    return [*PARTS, Member(b"m/version", text)]


ODD: dict[str, Sequence[Member]] = {
    "as usual": GOOD,
    "directory first": [Member(b"m/", b""), *GOOD],
    "version in .data": [*PARTS, Member(b"m/.data/version", b"3\n")],
    "no version": PARTS,
    "version 0": _version(b"0\n"),
    "version 1": _version(b"1\n"),
    "version 10": _version(b"10\n"),
    "version 11": _version(b"11\n"),
    "version 99": _version(b"99\n"),
    "version with letters behind": _version(b"3x"),
    "version with blanks before": _version(b"  3"),
    "version of letters": _version(b"x"),
    "version of nothing": _version(b""),
    "a record outside": [*GOOD, Member(b"outside", b"x")],
    "a record outside, first": [Member(b"outside", b"x"), *GOOD],
    "another folder": [*GOOD, Member(b"n/outside", b"x")],
    "another folder, first": [Member(b"n/outside", b"x"), *GOOD],
    "a folder whose name begins alike": [*GOOD, Member(b"mm/outside", b"x")],
    "MAR-INF beside it": [*GOOD, Member(b"MAR-INF/MANIFEST.json", b"{}")],
    "an absolute path": [*GOOD, Member(b"/etc/outside", b"x")],
    "a path of Windows": [*GOOD, Member(b"C:\\outside", b"x")],
    "a path upward": [*GOOD, Member(b"m/../../outside", b"x")],
    "no folder": _renamed(lambda name: name[2:]),
    "a folder without a name": _renamed(lambda name: name[1:]),
    "two folders": _renamed(lambda name: b"a/" + name),
    "two folders, version in the first": [
        *(replace(m, name=b"a/" + m.name) for m in PARTS), Member(b"a/version", b"3\n")
    ],
    "a long folder": _renamed(lambda name: b"r" * 600 + name),
    "a folder of 510": _renamed(lambda name: b"r" * 509 + name),
    "a folder of 511": _renamed(lambda name: b"r" * 510 + name),
    "a folder of 512": _renamed(lambda name: b"r" * 511 + name),
    "a long name": [*GOOD, Member(b"m/" + b"x" * 600, b"x")],
    "version in capitals": [*PARTS, Member(b"m/VERSION", b"3\n")],
    "a byte order with a line": [GOOD[0], replace(GOOD[1], data=b"little\n"), *GOOD[2:]],
    "no byte order": [GOOD[0], *GOOD[2:]],
    "an alignment": [*GOOD, Member(b"m/.storage_alignment", b"64")],
    "an alignment with a line": [*GOOD, Member(b"m/.storage_alignment", b"64\n")],
    "an alignment of letters": [*GOOD, Member(b"m/.storage_alignment", b"x")],
    "a pickle deeper": [*GOOD, Member(b"m/x/data.pkl", b"x")],
    "another file beside": [*GOOD, Member(b"m/readme.txt", b"x")],
    "deflated": [replace(m, method=8) for m in GOOD],
    "data descriptors": [replace(m, descriptor=True) for m in GOOD],
    "checksums never counted": [replace(m, checksum=0) for m in GOOD],
    "something encrypted beside": [*GOOD, Member(b"m/other", b"x", flags=1)],
}  # fmt: skip


def _loads(path: Path) -> bool:
    """Whether the installed torch loads a file; every one of ours is harmless."""
    try:
        torch.load(path, weights_only=True)
    except Exception:
        return False
    return True


@pytest.mark.parametrize("name", ODD)
def test_torch_refuses_where_we_say_so(name: str, tmp_path: Path) -> None:
    """Held against the installed torch; whatever it does, our own reader gives the values."""
    path = tmp_path / "odd.pt"
    path.write_bytes(archive(ODD[name]))
    checkpoint = read_checkpoint(path)
    assert checkpoint.models[0].tensors["a.weight"].values().tolist() == [1, 2, 3, 4]
    checkpoint.close()
    assert (not checkpoint.refused_by_torch) is _loads(path), checkpoint.refused_by_torch


def test_both_are_among_them(tmp_path: Path) -> None:
    """The table has archives that load and archives that do not, many of each."""
    (tmp_path / "odd").mkdir()
    loading = []
    for number, members in enumerate(ODD.values()):
        path = tmp_path / "odd" / f"{number}.pt"
        path.write_bytes(archive(members))
        loading.append(_loads(path))
    assert min(sum(loading), len(loading) - sum(loading)) >= 10


@pytest.mark.parametrize("first", [True, False])
def test_names_in_other_letters_are_refused(first: bool, tmp_path: Path) -> None:
    """Torch looks members up without regard to case, and may take the other of two."""
    other = Member(b"m/DATA.pkl", hand.pickled(hand.mapping({"b.weight": MODEL})))
    path = tmp_path / "odd.pt"
    path.write_bytes(archive([other, *GOOD] if first else [*GOOD, other]))
    report = normcheck.scan(path)
    assert "which one a program reads is its choice" in report.errors[0].message
    assert report.models == ()


def _again(data: bytes, *, add: str = "", drop: str = "", first: bool = False) -> bytes:
    """An archive with a member more or less."""
    archived, made = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
    with zipfile.ZipFile(made, "w") as writer:
        if add and first:
            writer.writestr(add, "x")
        for member in archived.infolist():
            if not (drop and member.filename.endswith(drop)):
                writer.writestr(member.filename, archived.read(member))
        if add and not first:
            writer.writestr(add, "x")
    return made.getvalue()


@pytest.mark.parametrize(
    "how", [{}, {"add": "outside"}, {"add": "outside", "first": True}, {"drop": "/version"}]
)
def test_scripts(how: dict[str, object], tmp_path: Path) -> None:
    """``torch.jit.load`` is less strict: a record beside the folder does not disturb it."""
    made = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))), made)
    path = tmp_path / "script.pt"
    path.write_bytes(_again(made.getvalue(), **how))  # type: ignore[arg-type]
    checkpoint = read_checkpoint(path)
    checkpoint.close()
    try:
        torch.jit.load(path)
        loads = True
    except RuntimeError:
        loads = False
    assert (not checkpoint.refused_by_torch) is loads


def test_what_a_user_sees(tmp_path: Path, command: Callable[..., Any]) -> None:
    """An error of the file and exit code 2; what was read is judged and shown all the same."""
    made = io.BytesIO()
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    nn.init.normal_(net[1].bias)
    torch.save(net.state_dict(), made)
    path = tmp_path / "model.pt"
    path.write_bytes(_again(made.getvalue(), add="MAR-INF/MANIFEST.json"))
    done = command("scan", str(path))
    assert done.returncode == 2
    assert "torch.load of torch 2.13 cannot load it: 'MAR-INF/MANIFEST.json' lies" in " ".join(
        done.stderr.split()
    )
    assert "hint:" in done.stderr
    assert "NC101" in done.stdout
    path.write_bytes(_again(made.getvalue()))
    assert command("scan", str(path)).returncode == 1
