"""Writes ``tests/fuzz/corpus``: small files of every format, from which fuzzing starts.

python -m tests.fuzz.corpus
"""

import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import tarfile
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.formats import by_hand as hand
from tests.formats.exports import hostile

FOLDER = Path(__file__).parent / "corpus"
_BLOCKS = f"""{hostile.HEAD}  eps : Final[float] = 1e-05
  def forward(self: __torch__.M, x: Tensor, y: Optional[Tensor]=None) -> Tuple[Tensor, Tensor]:
    _0 = __torch__.f
    if self.training:
      x = torch.dropout(x, 0.5, True)
    else:
      pass
    if torch.gt(torch.sum(x), 0):
      a = {hostile.CALL}
    else:
      a = torch.add(x, CONSTANTS.c0, alpha=1)
    for i in range(3):
      a = torch.layer_norm(a, [8], self.weight, None, self.eps)
    b = torch.linear(torch.relu(a), self.square, annotate(Optional[Tensor], None))
    _1, _2, = torch.chunk(_0(b, ), 2)
    return (torch.cat([_1, _2], 1), getattr(self, "weight"))
def f(x: Tensor) -> Tensor:
  return torch.add_(x, x, alpha=1)
"""
_LEGACY_HEAD = 15
"""Bytes of the first pickle of a legacy file, which the target puts before its input."""


def files() -> Iterator[tuple[str, str, bytes]]:
    """Target, name and bytes of every file of the corpus."""
    import torch
    from safetensors.torch import save

    torch.manual_seed(0)
    for name, thing in _things().items():
        zipped, old = _saved(thing), _saved(thing, legacy=True)
        yield "zip", f"{name}.pt", zipped
        yield "zip", f"{name}-deflated.pt", _deflated(zipped)
        if name != "module":  # which carries the source text of its classes, 25 kB of it
            yield "legacy", f"{name}.th", old[_LEGACY_HEAD:]
            yield "file", f"{name}.th", old
        yield "file", f"{name}.pt", zipped
        yield "unpickler", f"{name}-2.pkl", _pickle_of(thing)
    yield "legacy", "by-hand.th", _by_hand()
    # Once quoted whole in the error.
    yield "unpickler", "long-line.pkl", b"\x80\x02F" + b"1x" * 1_500 + b"\n."
    for protocol in (0, 1, 4, 5):
        yield "unpickler", f"plain-{protocol}.pkl", pickle.dumps(_plain(), protocol)
    raw = save({k: v for k, v in _things()["state"].items() if isinstance(v, torch.Tensor)})
    (length,) = struct.unpack("<Q", raw[:8])
    yield "safetensors", "state", (length - 2).to_bytes(2, "little") + raw[9:]
    yield "file", "state.safetensors", raw
    yield from _exports()
    yield from _folders()
    yield from _boxes(raw)


def _boxes(state: bytes) -> Iterator[tuple[str, str, bytes]]:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in ("model.safetensors", "n" * 120 + ".safetensors", "notes.txt"):
            info = tarfile.TarInfo(name)
            info.size = len(state)
            archive.addfile(info, io.BytesIO(state))
    tar = packed.getvalue().rstrip(b"\0") + bytes(1_024)
    yield "tar", "two.tar", tar
    yield "gzip", "state.safetensors.gz", gzip.compress(state, mtime=0)
    yield "gzip", "two.tar.gz", gzip.compress(tar, mtime=0)
    yield "file", "state.safetensors.xz", lzma.compress(state)
    yield "file", "two.tar.bz2", bz2.compress(tar)
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as box:
        for name, method in (("a.safetensors", zipfile.ZIP_DEFLATED), ("b", zipfile.ZIP_STORED)):
            box.writestr(zipfile.ZipInfo(name), state, method)
    yield "zip", "box.zip", zipped.getvalue()
    pieces = _pieces()
    yield "shards", "two", _pair(*pieces)


def _pieces() -> list[bytes]:
    import torch
    from safetensors.torch import save

    offsets = [{"n.weight": {"saved_offsets": [4 * rank]}} for rank in range(2)]
    return [
        save({"n.weight": torch.ones(4)}, {"DCP_SHARDING_INFO": json.dumps(at)}) for at in offsets
    ]


def _folders() -> Iterator[tuple[str, str, bytes]]:
    import torch
    import torch.distributed.checkpoint as dcp
    from torch import nn

    torch.manual_seed(0)
    state = nn.Sequential(nn.Conv1d(1, 2, 1), nn.BatchNorm1d(2)).state_dict()
    with tempfile.TemporaryDirectory() as name:
        dcp.save({"model": state, "epoch": 3}, checkpoint_id=name)
        yield "distributed", "state", _pair(*_read(name, ".metadata", "__0_0.distcp"))
        # Without the flattened names, as older ones are.
        described = pickle.loads(Path(name, ".metadata").read_bytes())
        described.planner_data = None
        old = pickle.dumps(described, 2)
        yield "distributed", "old", _pair(old, *_read(name, "__0_0.distcp"))
    whole = {"module": {"n.weight": torch.ones(4), "n.bias": torch.ones(4), "n.running_mean":
             torch.ones(4), "n.running_var": torch.ones(4)}}  # fmt: skip
    shapes = [OrderedDict({"n.weight": torch.Size([4]), "n.bias": torch.Size([4])})]
    empty = {**whole["module"], "n.weight": torch.empty(0), "n.bias": torch.empty(0)}
    flat = {"optimizer_state_dict": {"fp32_flat_groups": [torch.ones(5), torch.ones(3)]}}
    yield "ranks", "zero-1", _pair(_pickle_of(whole), b"")
    yield (
        "ranks",
        "zero-3",
        _pair(_pickle_of({"module": empty, "param_shapes": shapes}), _pickle_of(flat)),
    )


def _read(folder: str, *names: str) -> list[bytes]:
    return [Path(folder, name).read_bytes() for name in names]


def _pair(first: bytes, second: bytes) -> bytes:
    return len(first).to_bytes(2, "little") + first + second


def _pickle_of(thing: Any) -> bytes:
    with zipfile.ZipFile(io.BytesIO(_saved(thing))) as archive:
        return archive.read(next(n for n in archive.namelist() if n.endswith("data.pkl")))


def _exports() -> Iterator[tuple[str, str, bytes]]:
    yield "file", "script.pt", hostile.script()
    yield "file", "program.pt2", hostile.program()
    graphs = {"program": hostile.described(), "blocks": json.loads(hostile.nested(2))}
    weights = json.dumps(hostile.entries()).encode()
    for name, graph in graphs.items():
        yield "exported", name, json.dumps(graph).encode() + b"\0" + weights
    yield "script", "norm", (hostile.HEAD + hostile.FORWARD).encode()
    yield "script", "blocks", _BLOCKS.encode()
    yield "onnx", "norms.onnx", _onnx()


def _onnx() -> bytes:
    from onnx import helper, numpy_helper

    from tests.formats.onnx import onnx_by_hand

    square = numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
    nodes = [
        onnx_by_hand.norm("n"), helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["m"]),
        helper.make_node("LayerNormalization", ["m", "scale", "shift"], ["l"]),
        helper.make_node("Dropout", ["l"], ["y"]),
    ]  # fmt: skip
    # Long enough that its values are not parsed with the rest.
    table = numpy_helper.from_array(np.ones(300, np.float32), "t")
    made = onnx_by_hand.model(nodes, [*onnx_by_hand.weights(), square, table])
    return bytes(made.SerializeToString())


def _things() -> dict[str, Any]:
    import torch
    from torch import nn

    module = nn.Sequential(nn.Conv1d(1, 2, 1), nn.BatchNorm1d(2), nn.LayerNorm(2))
    tied = torch.arange(6.0)
    return {
        "state": dict(module.state_dict()),
        "module": module,
        "training": {
            "epoch": 1,
            "nets": [{"a.weight": tied[1:5:2], "a.bias": tied, "c.weight": tied.half()}],
            "optimizer": {"state": {0: {"step": 3}}, "param_groups": [{"lr": 0.1}]},
        },
    }


def _by_hand() -> bytes:
    """A module's class with its source text, and a storage seen through a view of it."""
    saved = hand.several(
        hand.text("storage"), hand.name("torch", "FloatStorage"), hand.text("0"), hand.text("cpu"),
        hand.number(4), hand.several(hand.text("1"), hand.number(1), hand.number(2)),
    )  # fmt: skip
    made = hand.several(hand.text("module"), hand.name("a", "Net"), hand.text("f"), hand.text("s"))
    state = hand.mapping(
        {"_modules": b"}", "_buffers": b"}",
         "_parameters": hand.mapping({"weight": hand.tensor(saved + b"Q", (2,), (1,))})}
    )  # fmt: skip
    body = hand.build(made + b"Q)\x81", state)
    parts = (hand.number(1001), hand.mapping({"little_endian": hand.TRUE}), body)
    pickles = b"".join(map(hand.pickled, (*parts, hand.listed(hand.text("0")))))
    return pickles + struct.pack("<q4f", 4, 1, 2, 3, 4)


def _plain() -> dict[str, Any]:
    return {
        "weight": np.arange(4.0, dtype=np.float32), "names": OrderedDict(a=1, b=(1, 2.5, "é")),
        "sets": [{1, 2}, frozenset("ab"), b"bytes", bytearray(b"x"), True, None, 1 << 70],
    }  # fmt: skip


def _saved(thing: Any, *, legacy: bool = False) -> bytes:
    import torch

    raw = io.BytesIO()
    torch.save(thing, raw, _use_new_zipfile_serialization=not legacy)
    return raw.getvalue()


def _deflated(raw: bytes) -> bytes:
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(raw)) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            # A fixed date, so that two runs write the same bytes.
            target.writestr(zipfile.ZipInfo(name), source.read(name), zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def write(folder: Path = FOLDER, wanted: Callable[[str], bool] = lambda _: True) -> None:
    """Write the files of the targets that are ``wanted``."""
    for target, name, data in files():
        if wanted(target):
            path = folder / target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


if __name__ == "__main__":
    write()
