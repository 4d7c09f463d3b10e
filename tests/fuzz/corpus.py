"""Writes ``tests/fuzz/corpus``: small files of every format, from which fuzzing starts.

python -m tests.fuzz.corpus
"""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.checkpoint import by_hand as hand

FOLDER = Path(__file__).parent / "corpus"
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
        with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
            inner = next(n for n in archive.namelist() if n.endswith("data.pkl"))
            yield "unpickler", f"{name}-2.pkl", archive.read(inner)
    yield "legacy", "by-hand.th", _by_hand()
    for protocol in (0, 1, 4, 5):
        yield "unpickler", f"plain-{protocol}.pkl", pickle.dumps(_plain(), protocol)
    raw = save({k: v for k, v in _things()["state"].items() if isinstance(v, torch.Tensor)})
    (length,) = struct.unpack("<Q", raw[:8])
    yield "safetensors", "state", (length - 2).to_bytes(2, "little") + raw[9:]
    yield "file", "state.safetensors", raw


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
    import numpy as np

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
