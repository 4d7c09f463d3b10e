"""Files that are no checkpoint: each is recognised, and the message helps."""

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from normcheck.errors import UnreadableError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.runs.scan import scan
from tests.formats import by_hand as hand


def refusal(path: Path) -> UnreadableError:
    """The error of reading ``path``, checked to name it, on one line, with a hint."""
    with pytest.raises(UnreadableError) as caught:
        read_checkpoint(path)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message + caught.value.hint
    assert caught.value.hint
    return caught.value


def tarred() -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return raw.getvalue()


def array() -> bytes:
    raw = io.BytesIO()
    np.save(raw, np.zeros(3))
    return raw.getvalue()


def page() -> bytes:
    return b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (bytes(5000), "zeros"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "LFS"),
        (page(), "web page"),
        (b"\n\n  <html>", "web page"),
        (b"\xef\xbb\xbf<!doctype html>", "web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "web page"),
        (b"GGUF\x03\0\0\0" + bytes(100), "GGUF"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
        (tarred(), "tar archive"),
        (gzip.compress(b"x" * 100, mtime=0), "gzip"),
        (b"\x1c\0\0\0TFL3" + bytes(60), "TensorFlow Lite"),
        (b"\x1c\0\0\0ET12" + bytes(60), "ExecuTorch"),
        (b"\x7fELF\x02\x01\x01" + bytes(60), "program or library"),
        (b"outs:\n- md5: 4d7a\n  size: 12345\n  path: model.pt\n", "DVC"),
        (b"BZh91AY&SY" + bytes(20), "cannot be unpacked"),
        (array(), "numpy array"),
        (json.dumps({"architectures": []}).encode(), "JSON"),
        (b"just some words", "not a checkpoint format"),
        (b"\x00\x01\x02", "not a checkpoint format"),
        (b"PK\x05\x06" + bytes(18), "not a checkpoint format"),
        (b"\x80\x06abc", "not a checkpoint format"),
        (b"(", "not a checkpoint format"),
        (b"\x80", "not a checkpoint format"),
    ],
)
def test_recognised(content: bytes, words: str, tmp_path: Path) -> None:
    """The message says what the file is; its name does not matter."""
    for name in ("model.pt", "model.safetensors", "model.pkl"):
        path = tmp_path / name
        path.write_bytes(content)
        assert words in refusal(path).message


def arrays(path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, a=np.zeros(3), b=np.ones(2))


def archive_of(*names: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "x")

    return write


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("write", "words"),
    [
        (archive_of("model/data/aotinductor/model/a.so", "model/archive_format"), "AOTInductor"),
        (arrays, "numpy arrays"),
        (archive_of("config.json", "metadata.json", "model.weights.h5"), "Keras"),
        (archive_of("readme.txt"), "zip archive of 1 file, none of which"),
        (archive_of("model/data.pickle", "model/mydata.pkl"), "zip archive of 2 files, none of"),
    ],
)
def test_archives(write: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    """Zip archives of other kinds are told apart from those of ``torch.save``."""
    path = tmp_path / "model.pt2"
    write(path)
    assert words in refusal(path).message


@pytest.mark.parametrize(
    "thing",
    [
        hand.storage(kind="\x1b[31mRed"),
        hand.storage(key="\x07\x1b[2J"),
        hand.tensor(hand.storage(), (1,), (1,)),
    ],
)
def test_messages_are_printable(thing: bytes, tmp_path: Path) -> None:
    """What a message quotes from a file cannot drive a terminal."""
    data = hand.pickled(hand.mapping({"a.weight": thing}))
    message = refusal(hand.torch_zip(tmp_path / "model.pt", data)).message
    assert message.isprintable()


@pytest.mark.parametrize("start", [b"\x7fELF\x02\x01\x01", b"MZ\x90\0", b"\xcf\xfa\xed\xfe"])
def test_a_program_in_a_folder_is_passed_over(start: bytes, tmp_path: Path) -> None:
    """Builds of C++ projects leave programs named ``.bin``; named by itself, one is refused."""
    torch.save(nn.BatchNorm1d(8).state_dict(), tmp_path / "model.pt")
    program = tmp_path / "check.bin"
    program.write_bytes(start + bytes(600))
    found = scan([tmp_path])
    assert [Path(model.target).name for model in found.models] == ["model.pt"]
    assert not found.errors
    assert scan([program]).errors
