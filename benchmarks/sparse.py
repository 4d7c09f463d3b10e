"""Checkpoints of any size that take hardly any disk: weights are holes, norms are real.

A language model in bfloat16 behind a small convolutional stem with BatchNorm, in a torch zip or
in sharded safetensors. Holes read as zeros; a reader that touches them pays for them all the same.
"""

import io
import json
import pickle
import struct
import sys
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import nn

_ALIGN = 64
_WIDTHS = {torch.bfloat16: 2, torch.float32: 4, torch.int64: 8}
_STORAGES = {
    torch.bfloat16: torch.BFloat16Storage,
    torch.float32: torch.FloatStorage,
    torch.int64: torch.LongStorage,
}
_SAFE = {torch.bfloat16: "BF16", torch.float32: "F32", torch.int64: "I64"}


@dataclass(frozen=True)
class Stored:
    """One tensor: its bytes, or None for a hole."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    data: bytes | None = None

    @property
    def nbytes(self) -> int:
        """Length in bytes."""
        return prod(self.shape) * _WIDTHS[self.dtype]


@dataclass(frozen=True)
class Made:
    """Where it lies, and what has to be read of it."""

    path: Path
    size: int
    """Length in bytes of all files."""
    structure: int
    """Bytes of directory and pickle, or of headers."""
    judged: int
    """Bytes of norms, and of the weights between BatchNorms."""


def stem() -> OrderedDict[str, Stored]:
    """Twelve convolutions with BatchNorm whose statistics are those of batches that went through.

    With such norms in a model, the weights between norms are looked for and judged.
    """
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)]
    for _ in range(11):
        layers += [nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)]
    network = nn.Sequential(*layers)
    with torch.no_grad():
        for _ in range(60):
            network(torch.randn(4, 3, 16, 16))
    return OrderedDict(
        (f"stem.{name}", Stored(tuple(tensor.shape), tensor.dtype, tensor.numpy().tobytes()))
        for name, tensor in network.state_dict().items()
    )


def model(gigabytes: float, *, width: int = 6144) -> OrderedDict[str, Stored]:
    """The state dict, as long as asked for."""
    state = stem()
    one = torch.ones(width, dtype=torch.bfloat16).view(torch.uint8).numpy().tobytes()
    left = gigabytes * 1e9 - sum(stored.nbytes for stored in state.values())
    number = 0
    while left > 0:
        block = {
            "input_layernorm": Stored((width,), torch.bfloat16, one),
            **{f"self_attn.{n}_proj": Stored((width, width), torch.bfloat16) for n in "qkvo"},
            "post_attention_layernorm": Stored((width,), torch.bfloat16, one),
            **{f"mlp.{n}_proj": Stored((4 * width, width), torch.bfloat16) for n in ("up", "down")},
        }
        for name, stored in block.items():
            state[f"model.layers.{number}.{name}.weight"] = stored
        left -= sum(stored.nbytes for stored in block.values())
        number += 1
    return state


def judged_bytes(state: OrderedDict[str, Stored]) -> int:
    """Of everything in it that a scan judges: what is no hole, without the first convolution."""
    return sum(stored.nbytes for name, stored in state.items()
               if stored.data is not None and name != "stem.0.weight")  # fmt: skip


class _Pickler(pickle.Pickler):
    """Writes the pickle of ``torch.save`` for tensors of which only the shape is here."""

    def persistent_id(self, value: object) -> object:
        if isinstance(value, tuple) and len(value) == 3 and value[0] == "storage here":
            stored, key = value[1], value[2]
            numel = prod(stored.shape)
            return ("storage", _STORAGES[stored.dtype], key, "cpu", numel)
        return None

    def reducer_override(self, value: object) -> object:
        if isinstance(value, _Tensor):
            # A tuple of its own each time, as torch writes it: pickle would recall a known one.
            shape = (*value.stored.shape,)
            stride = torch.empty(shape, device="meta").stride()
            arguments = (("storage here", value.stored, value.key), 0, shape, stride, False)
            return torch._utils._rebuild_tensor_v2, (*arguments, OrderedDict())  # noqa: SLF001
        return NotImplemented


@dataclass(frozen=True)
class _Tensor:
    stored: Stored
    key: str


def torch_zip(path: Path, state: OrderedDict[str, Stored]) -> Made:
    """As ``torch.save`` lays it out, with a checksum where there are bytes."""
    pickled = io.BytesIO()
    tensors = {name: _Tensor(stored, str(i)) for i, (name, stored) in enumerate(state.items())}
    _Pickler(pickled, protocol=2).dump(tensors)
    members: list[tuple[str, int, bytes | None]] = [
        ("archive/data.pkl", pickled.tell(), pickled.getvalue()),
        ("archive/byteorder", 6, b"little"),
        ("archive/version", 2, b"3\n"),
    ]
    members += [
        (f"archive/data/{i}", stored.nbytes, stored.data) for i, stored in enumerate(state.values())
    ]
    directory = io.BytesIO()
    with path.open("wb") as file:
        for name, size, data in members:
            _member(file, directory, name.encode(), size, data)
        begin, length = file.tell(), directory.tell()
        file.write(directory.getvalue())
        count, end = len(members), file.tell()
        file.write(struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count,
                               length, begin))  # fmt: skip
        file.write(struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1))
        file.write(struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF,
                               0xFFFFFFFF, 0))  # fmt: skip
    structure = directory.tell() + pickled.tell() + sum(30 + len(name) for name, *_ in members)
    return Made(path, path.stat().st_size, structure, judged_bytes(state))


def _member(
    file: io.BufferedWriter, directory: io.BytesIO, name: bytes, size: int, data: bytes | None
) -> None:
    import zlib

    offset = file.tell()
    crc = zlib.crc32(data) if data is not None else 0
    padding = -(offset + 30 + len(name) + 4) % _ALIGN
    extra = struct.pack("<HH", 0x4246, padding) + b"Z" * padding
    file.write(struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 45, 0, 0, 0, 0, crc,
                           min(size, 0xFFFFFFFF), min(size, 0xFFFFFFFF), len(name),
                           len(extra)))  # fmt: skip
    file.write(name + extra)
    if data is not None:
        file.write(data)
    else:
        file.seek(size, io.SEEK_CUR)
    wide = struct.pack("<HHQQQ", 1, 24, size, size, offset)
    directory.write(struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\x01\x02", 45, 45, 0, 0, 0, 0, crc,
                                0xFFFFFFFF, 0xFFFFFFFF, len(name), len(wide), 0, 0, 0, 0,
                                0xFFFFFFFF))  # fmt: skip
    directory.write(name + wide)


def sharded(folder: Path, state: OrderedDict[str, Stored], shards: int = 8) -> Made:
    """Safetensors shards with their index, as Hugging Face lays them out."""
    folder.mkdir(parents=True, exist_ok=True)
    each = sum(stored.nbytes for stored in state.values()) / shards
    placed: dict[str, str] = {}
    groups: list[dict[str, Stored]] = [{}]
    filled = 0
    for name, stored in state.items():
        if filled > each and len(groups) < shards:
            groups.append({})
            filled = 0
        groups[-1][name] = stored
        filled += stored.nbytes
    structure = size = 0
    for number, group in enumerate(groups, start=1):
        path = folder / f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        placed |= dict.fromkeys(group, path.name)
        structure += _safetensors(path, group)
        size += path.stat().st_size
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    return Made(index, size, structure + index.stat().st_size, judged_bytes(state))


def _safetensors(path: Path, group: dict[str, Stored]) -> int:
    header, place = {}, 0
    for name, stored in group.items():
        header[name] = {"dtype": _SAFE[stored.dtype], "shape": stored.shape,
                        "data_offsets": [place, place + stored.nbytes]}  # fmt: skip
        place += stored.nbytes
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        begin = file.tell()
        for name, stored in group.items():
            if stored.data is not None:
                file.seek(begin + header[name]["data_offsets"][0])
                file.write(stored.data)
        file.truncate(begin + place)
    return 8 + len(text)


def many_tensors(count: int) -> Iterator[tuple[str, Stored]]:
    """A mixture of experts: so many small weights, two norms for every 64 of them."""
    norm = torch.ones(8).numpy().tobytes()
    for number in range(count):
        layer, within = divmod(number, 66)
        if within < 2:
            name = f"model.layers.{layer}.{('input', 'post')[within]}_layernorm.weight"
            yield name, Stored((8,), torch.float32, norm)
        else:
            yield (
                f"model.layers.{layer}.experts.{within}.up_proj.weight",
                Stored((8, 8), torch.bfloat16),
            )


if __name__ == "__main__":
    made = torch_zip(Path(sys.argv[1]), model(float(sys.argv[2])))
    print(made)
