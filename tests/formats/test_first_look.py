"""Folders by content: what a file is whose name does not say it, and what is passed over."""

import io
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import save
from torch import nn

from normcheck.formats.first_look import first_look
from normcheck.formats.targets import PassedOver, Target, expand, expand_all
from tests.conftest import SAMPLES
from tests.formats.boxes.boxes import HEALTHY, stored, tarred, zipped


def saved(thing: Any, *, legacy: bool = False) -> bytes:
    raw = io.BytesIO()
    torch.save(thing, raw, _use_new_zipfile_serialization=not legacy)
    return raw.getvalue()


def scripted() -> bytes:
    raw = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.BatchNorm1d(4)), raw)
    return raw.getvalue()


def exported() -> bytes:
    raw = io.BytesIO()
    torch.export.save(torch.export.export(nn.Linear(4, 4), (torch.ones(2, 4),)), raw)
    return raw.getvalue()


def onnx_file() -> bytes:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    other = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [other])
    data: bytes = onnx.ModelProto.SerializeToString(helper.make_model(graph, producer_name="t"))
    return data


STATE = nn.BatchNorm1d(40).state_dict()
SURE: dict[str, Callable[[], bytes]] = {
    "torch zip": lambda: saved(STATE),
    "legacy torch": lambda: saved(STATE, legacy=True),
    "whole module": lambda: saved(nn.BatchNorm1d(40)),
    "safetensors": lambda: save(STATE),
    "TorchScript": scripted,
    "exported program": exported,
}
PERHAPS: dict[str, Callable[[], bytes]] = {
    "plain pickle": lambda: pickle.dumps(STATE),
    "ONNX": onnx_file,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["model", "model.sav", "model.v2", "model.pt.bak"])
@pytest.mark.parametrize("kind", [*SURE, *PERHAPS])
def test_found_by_first_bytes(kind: str, name: str, tmp_path: Path) -> None:
    """Every format, whatever its files are called."""
    (tmp_path / name).write_bytes((SURE | PERHAPS)[kind]())
    (target,) = expand_all([str(tmp_path)])
    assert isinstance(target, Target)
    assert (target.path, target.explicit, target.sure) == (tmp_path / name, False, kind in SURE)
    assert [t.path for t in expand([str(tmp_path)])] == [tmp_path / name] * target.sure


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("model.h5", b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
        ("model.tflite", b"\x1c\0\0\0TFL3" + bytes(60), "TensorFlow Lite"),
        ("model.pte", b"\x1c\0\0\0ET12" + bytes(60), "ExecuTorch"),
        ("flax.msgpack", b"\x82\xa6params" + bytes(60), "Flax"),
        ("saved_model.pb", b"\x08\x01\x12\x80\x01" + bytes(60), "SavedModel"),
        ("weights.dvc", b"outs:\n- md5: 4d7a\n  path: model.pt\n", "DVC"),
        ("weights", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "LFS"),
        ("part.distcp", bytes(20), "without its .metadata"),
        ("table.dat", bytes(range(256)) * 3, "not a checkpoint format"),
    ],
)
def test_passed_over(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    """What is no checkpoint is named as what it is."""
    (tmp_path / name).write_bytes(content)
    (found,) = expand_all([str(tmp_path)])
    assert isinstance(found, PassedOver)
    assert words in found.why
    assert list(expand([str(tmp_path)])) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("LICENSE", b"Permission is hereby granted ...\n"),
        ("words", b"cat\ndog\n"),  # as a pickle of protocol 0 may begin
        ("Makefile", b"all:\n\tmake\n"),
        ("notizen", "Größe\n".encode()),
        ("empty", b""),
        ("model.py", b"PK\x03\x04"),
        ("model.json", json.dumps({"a": 1}).encode()),
        (".DS_Store", b"\0\0\0\1Bud1"),
        ("events.out.tfevents.1700000000.host", b"\x18\0\0\0\0\0\0\0"),
        ("picture.PNG", b"\x89PNG"),
    ],
)
def test_nothing_to_do_with_models(name: str, content: bytes, tmp_path: Path) -> None:
    """Text, code, data and pictures are not even counted."""
    (tmp_path / name).write_bytes(content)
    assert list(expand_all([str(tmp_path)])) == []


@pytest.mark.parametrize(
    ("members", "readable"),
    [
        ({"data": b"{}", "policy.pth": HEALTHY}, True),
        ({"model_params.json": b"{}", "network.pt": HEALTHY}, True),
        ({"epoch-1.pt": HEALTHY}, True),
        ({"images/1.png": b"..", "epoch-1.pt": HEALTHY}, False),
    ],
)
def test_archives(members: dict[str, bytes], *, readable: bool, tmp_path: Path) -> None:
    """Those that libraries make for models are read; others are named, not searched."""
    stored(tmp_path / "box.zip", members)
    (found,) = expand_all([str(tmp_path)])
    assert isinstance(found, Target) is readable
    (tmp_path / "box.zip").unlink()
    tarred(tmp_path / "box.tar", members)
    (found,) = expand_all([str(tmp_path)])
    assert isinstance(found, PassedOver)
    assert "named by itself it is read" in found.why


def test_arrays(tmp_path: Path) -> None:
    """An npz is a zip, too."""
    np.savez(tmp_path / "weights.npz", a=np.zeros(3))
    (found,) = expand_all([str(tmp_path)])
    assert isinstance(found, PassedOver)
    assert "numpy" in found.why


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    """A FIFO would never answer, a broken link has nothing to say."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "broken").symlink_to(tmp_path / "gone")
    (tmp_path / "whole").symlink_to(SAMPLES / "digits-healthy.pt")
    assert first_look(tmp_path / "fifo") is None
    assert [t.path.name for t in expand([str(tmp_path)])] == ["whole"]


def test_cost_is_the_first_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large the file is, 512 bytes of it are read."""
    (tmp_path / "large.dat").write_bytes(bytes(1 << 20))
    asked: list[int] = []
    opened = Path.open

    def watched(self: Path, *words: Any, **more: Any) -> Any:
        file = opened(self, *words, **more)

        class Watched:
            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def fileno(self) -> int:
                return int(file.fileno())

            def read(self, length: int) -> bytes:
                asked.append(length)
                return bytes(file.read(length))

        return Watched()

    monkeypatch.setattr(Path, "open", watched)
    list(expand_all([str(tmp_path)]))
    assert asked == [512]


def test_last_line(tmp_path: Path, command: Any) -> None:
    """A folder of odd names: the model is judged, the rest counted, and named with -v."""
    shutil.copy(SAMPLES / "foreign-statistics.pt", tmp_path / "foreign.v2")
    (tmp_path / "trees.sav").write_bytes(pickle.dumps({"depth": 3}))
    (tmp_path / "keras.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / "README").write_text("hello")
    run = command("scan", str(tmp_path), COLUMNS="200")
    assert run.returncode == 1
    assert "NC108" in run.stdout
    assert "2 files without a model passed over" in run.stdout
    verbose = command("scan", str(tmp_path), "-v", COLUMNS="200").stdout
    assert "keras.h5: an HDF5 file" in verbose
    assert "trees.sav" in verbose


def test_strict_does_not_mind(tmp_path: Path, command: Any) -> None:
    """Nobody asked for what lies beside the checkpoints of a folder."""
    shutil.copy(SAMPLES / "digits-healthy.pt", tmp_path / "model")
    alone = command("scan", str(tmp_path), "--strict", "--select", "NC101")
    (tmp_path / "trees.sav").write_bytes(pickle.dumps({"depth": 3}))
    (tmp_path / "keras.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    among = command("scan", str(tmp_path), "--strict", "--select", "NC101")
    assert (alone.returncode, among.returncode) == (0, 0)


def test_nothing_but_others(tmp_path: Path, command: Any) -> None:
    """Exit code 3 says what a few are; of many, how to see them."""
    for count in (1, 5):
        for number in range(count):
            (tmp_path / f"{number}.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
        run = command("scan", str(tmp_path))
        assert run.returncode == 3
        assert f"({count} file" in run.stderr
        assert ("an HDF5 file" in run.stderr) is (count == 1)
        assert ("-v" in run.stderr) is (count == 5)
    told = command("scan", str(tmp_path), "-v").stderr
    assert told.count("an HDF5 file") == 5


def test_damaged(tmp_path: Path, command: Any) -> None:
    """A broken checkpoint of any name is an error; what only begins like a pickle is not."""
    (tmp_path / "cut").write_bytes(HEALTHY[: len(HEALTHY) // 2])
    assert command("scan", str(tmp_path)).returncode == 2
    (tmp_path / "cut").write_bytes(b"\x80\x04\x95" + bytes(40))
    assert command("scan", str(tmp_path)).returncode == 3


def test_zip_of_a_known_suffix_is_unchanged(tmp_path: Path) -> None:
    """What has a checkpoint's suffix is taken by it, content unseen."""
    zipped(tmp_path / "a.pt", {"x": b""})
    (target,) = expand([str(tmp_path)])
    assert target.sure


def test_compiled_package(tmp_path: Path, command: Any) -> None:
    """What has the suffix of exported programs and is machine code is no error in a folder."""
    zipped(tmp_path / "net.pt2", {"net/data/aotinductor/model/a.so": b"\x7fELF"})
    shutil.copy(SAMPLES / "digits-healthy.pt", tmp_path / "net.pt")
    run = command("scan", str(tmp_path), COLUMNS="200")
    assert run.returncode == 0
    assert "1 file without a model passed over" in run.stdout
    assert "AOTInductor" in command("scan", str(tmp_path / "net.pt2")).stderr
