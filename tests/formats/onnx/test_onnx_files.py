"""ONNX files: recognised by content, tensors beside them, damaged and made to harm."""

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from normcheck.errors import NoModelError, RefusedError, UnreadableError
from normcheck.formats.onnx.onnx_file import looks_like_onnx, read_onnx
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.sources.limits import Limits
from normcheck.sources.source import MemorySource
from tests.formats.onnx.onnx_by_hand import external, model, norm, weights, written
from tests.formats.onnx.onnx_exported import export, model_of

pytestmark = pytest.mark.slow

LARGE = np.arange(600, dtype=np.float32)


def beside(
    folder: Path, location: str = "data.bin", *, offset: int = 8, length: int | None = None
) -> Path:
    """A model, one of whose tensors is said to lie in another file."""
    entries: dict[str, object] = {"location": location, "offset": offset}
    if length is not None:
        entries["length"] = length
    held = external(numpy_helper.from_array(LARGE, "large"), **entries)
    return written(model([norm()], [*weights(), held]), folder / "model.onnx")


def refusal(path: Path) -> str:
    with pytest.raises(UnreadableError) as caught:
        read_checkpoint(path)
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value.message


@pytest.mark.parametrize("name", ["model.onnx", "model.bin", "model"])
def test_recognised_by_content(tmp_path: Path, name: str) -> None:
    """Whatever it is called."""
    checkpoint = read_checkpoint(written(model([norm()], weights()), tmp_path / name))
    assert checkpoint.format == "protobuf, written by a tool"
    assert checkpoint.size == (tmp_path / name).stat().st_size


@pytest.mark.parametrize(
    "start",
    [
        b"\x08\x01\x12\xce\x05\x0a\x10",  # TensorFlow's SavedModel: a message comes second
        b"\x08",
        b"\x08\x00\x3a",
        b"\x80\x02}",
        b"PK\x03\x04",
    ],
)
def test_other_files_are_not_taken(start: bytes) -> None:
    """Among them a SavedModel, which is protobuf too."""
    assert not looks_like_onnx(start)


def test_external_data_is_read_when_asked_for(tmp_path: Path) -> None:
    """The file beside it may be any size; a look at the norms does not open it."""
    data = tmp_path / "data.bin"
    data.write_bytes(bytes(8) + LARGE.tobytes())
    checkpoint = read_checkpoint(beside(tmp_path))
    tensor = checkpoint.models[0].tensors["large"]
    assert checkpoint.size == (tmp_path / "model.onnx").stat().st_size + data.stat().st_size
    assert np.array_equal(tensor.values(), LARGE)
    data.unlink()
    with pytest.raises(UnreadableError, match="no such file"):
        tensor.values()


def test_external_data_as_torch_writes_it(tmp_path: Path) -> None:
    """The newer exporter's own."""
    import torch

    net = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(64, 64), torch.nn.LayerNorm(64))
    path = export(net, tmp_path / "m.onnx", torch.rand(2, 64), dynamo=True, external_data=True)
    assert (tmp_path / "m.onnx.data").exists()
    read = model_of(path).tensors
    for name, tensor in net.state_dict().items():
        assert np.array_equal(read[name].values(), tensor.numpy())


@pytest.mark.parametrize(
    "location",
    ["../data.bin", "/etc/passwd", "a/../../data.bin", "..\\data.bin", "C:\\x", "", "a\nb"],
)
def test_external_data_outside_the_folder(tmp_path: Path, location: str) -> None:
    """Is not read, whether it is there or not."""
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "data.bin").write_bytes(bytes(5000))
    assert "outside the model's folder" in refusal(beside(inner, location))


def test_a_link_out_of_the_folder(tmp_path: Path) -> None:
    """Is as good as a path out of it."""
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "data.bin").write_bytes(bytes(5000))
    (inner / "data.bin").symlink_to("../data.bin")
    assert "leads out of the model's folder" in refusal(beside(inner))


def test_links_into_a_cache(tmp_path: Path) -> None:
    """A download cache has model and data as links to files that lie together."""
    blobs, shown = tmp_path / "blobs", tmp_path / "shown"
    blobs.mkdir()
    shown.mkdir()
    (blobs / "2b").write_bytes(bytes(8) + LARGE.tobytes())
    beside(blobs).rename(blobs / "1a")
    (shown / "model.onnx").symlink_to("../blobs/1a")
    (shown / "data.bin").symlink_to("../blobs/2b")
    tensor = model_of(shown / "model.onnx").tensors["large"]
    assert np.array_equal(tensor.values(), LARGE)


def test_external_data_that_is_missing_or_cut_off(tmp_path: Path) -> None:
    """Each with the file that it is about."""
    path = beside(tmp_path)
    assert "data.bin: this file is missing" in refusal(path)
    (tmp_path / "data.bin").write_bytes(LARGE.tobytes())
    assert "ends at byte 2,408, the file at 2,400" in refusal(path)
    assert "for 2,400" in refusal(beside(tmp_path, length=16))
    assert "no number" in refusal(beside(tmp_path, offset=-1))
    (tmp_path / "data.bin").unlink()
    (tmp_path / "data.bin").mkdir()
    path = beside(tmp_path)
    with pytest.raises(UnreadableError):
        model_of(path).tensors["large"].values()


def test_cut_off_anywhere(tmp_path: Path) -> None:
    """A beginning of a model is an error with a hint, never a crash, never a whole model."""
    made = model([norm()], weights())
    del made.opset_import[1:]
    whole = made.SerializeToString()
    for end in range(2, len(whole)):
        path = tmp_path / "model.onnx"
        path.write_bytes(whole[:end])
        with pytest.raises(UnreadableError) as caught:
            read_checkpoint(path)
        assert caught.value.hint


def test_damaged_bytes(tmp_path: Path) -> None:
    """Any byte may be another: the model is read, or an error is clear."""
    whole = bytearray(model([norm()], weights()).SerializeToString())
    rolls = random.Random(0)  # noqa: S311 - not for secrets
    clear = 0
    for _ in range(400):
        changed = bytearray(whole)
        for _ in range(rolls.randint(1, 3)):
            changed[rolls.randrange(2, len(changed))] = rolls.randrange(256)
        try:
            read = read_onnx(MemorySource(bytes(changed), "damaged"), Limits())
        except UnreadableError:
            clear += 1
        else:
            for tensor in read.models[0].tensors.values():
                assert not tensor.readable or tensor.values().shape == tensor.shape
    assert clear > 100


@pytest.mark.parametrize("what", ["nodes", "numbers", "nested", "name"])
def test_small_files_that_ask_for_much(what: str) -> None:
    """What it takes once parsed is counted before it is parsed."""
    if what == "nodes":  # two bytes each
        graph = b"\x0a\x00" * 50_000
    elif what == "numbers":  # packed, a byte each
        graph = b"\x2a" + _length(b"\x0a" + _length(bytes(4_000_000)))
    elif what == "name":
        graph = b"\x12" + _length(b"n" * (20 << 20))
    else:
        graph = b""
        for _ in range(200):  # a graph in an attribute of a node, again and again
            graph = b"\x0a" + _length(b"\x2a" + _length(b"\x32" + _length(graph)))
    data = b"\x08\x08\x3a" + _length(graph)
    with pytest.raises(RefusedError):
        read_onnx(MemorySource(data, "small"), Limits(memory_bytes=16 << 20))


@pytest.mark.parametrize(("inputs", "outputs"), [([], ["y"]), (["x"], ["y"]), (["x", "s"], [])])
def test_operators_without_operands(inputs: list[str], outputs: list[str]) -> None:
    """An operator that lacks what its kind takes or gives computes nothing, and breaks nothing."""
    stored = [
        numpy_helper.from_array(np.ones(4, np.int8), "x"),
        numpy_helper.from_array(np.float32(1), "s"),
    ]
    bare = helper.make_node("DequantizeLinear", inputs, outputs)
    made = model([norm(), bare], [*weights(), *stored])
    found = read_onnx(MemorySource(made.SerializeToString(), "bare"), Limits()).models[0]
    assert "y" not in found.tensors


def _length(data: bytes) -> bytes:
    """The data behind its length."""
    rest, prefix = len(data), b""
    while rest > 0x7F:
        prefix += bytes([rest & 0x7F | 0x80])
        rest >>= 7
    return prefix + bytes([rest]) + data


def test_lengths_that_lie() -> None:
    """More bytes than the shape takes, a shape below zero, more dimensions than any."""
    for change in ("raw", "negative", "dimensions", "huge"):
        tensor = numpy_helper.from_array(np.ones(4, np.float32), "odd")
        if change == "raw":
            tensor.raw_data += b"abc"
        elif change == "negative":
            tensor.dims[0] = -4
        elif change == "huge":
            tensor.dims[:] = [1 << 40, 1 << 40]
        else:
            tensor.dims.extend([1] * 100)
        made = model([norm()], [*weights(), tensor])
        with pytest.raises(UnreadableError):
            read_onnx(MemorySource(made.SerializeToString(), "odd"), Limits())


def test_no_graph(tmp_path: Path) -> None:
    """A model without one has nothing to scan."""
    path = written(helper.make_model(onnx.GraphProto(), producer_name="p"), tmp_path / "m.onnx")
    with pytest.raises(NoModelError):
        read_checkpoint(path)


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how to get it."""
    path = written(model([norm()], weights()), tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UnreadableError) as caught:
        read_checkpoint(path)
    assert caught.value.hint == "pip install 'normcheck[onnx]'"


def test_what_is_imported(tmp_path: Path) -> None:
    """Nothing of ONNX for other files; neither torch nor the runtime for these."""
    path = written(model([norm()], weights()), tmp_path / "model.onnx")
    source = (
        "import sys; from pathlib import Path\n"
        "from normcheck.formats.read_checkpoint import read_checkpoint\n"
        "read_checkpoint(Path(sys.argv[1])).close()\n"
        "print(*sorted({'onnx', 'torch', 'onnxruntime', 'google'} & sys.modules.keys()))"
    )
    for target, expected in ((path, "google onnx"), ("sample_models/statistics-lost.pt", "")):
        run = subprocess.run(
            [sys.executable, "-c", source, str(target)], capture_output=True, text=True, check=True
        )
        assert run.stdout.strip() == expected


def test_scanned_by_the_command(
    tmp_path: Path, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """The finding names the node; the folder is searched for the suffix."""
    node = norm("y", "m", "v", training_mode=1)
    written(model([node], weights()), tmp_path / "model.onnx")
    run = command("scan", str(tmp_path))
    assert run.returncode == 1
    assert "NC204" in run.stdout
    assert "norm" in run.stdout
    written(model([norm()], weights()), tmp_path / "model.onnx")
    assert command("scan", str(tmp_path), "--select", "NC204").returncode == 0
