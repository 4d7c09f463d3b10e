"""Checkpoints in every format, and damage to them, for hypothesis."""

import json
import pickle
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.formats import by_hand as hand
from tests.formats.exports import hostile

Numbers = dict[str, list[float]]
"""What a file holds: float32 numbers by tensor name."""

FORMATS = ("zip", "legacy", "pickle", "safetensors", "script", "program")
CHECKED = frozenset({"zip", "script", "program"})
"""Formats with checksums: what is read of them in spite of damage is what was saved."""


@dataclass(frozen=True)
class Saved:
    """A file, and what is in it."""

    form: str
    data: bytes
    numbers: Numbers


def _floats(values: list[float]) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def _as_zip(numbers: Numbers) -> bytes:
    body = {name: hand.tensor(hand.storage(str(i), len(values)), (len(values),), (1,))
            for i, (name, values) in enumerate(numbers.items())}  # fmt: skip
    stored = {str(i): _floats(values) for i, values in enumerate(numbers.values())}
    raw = {"data.pkl": hand.pickled(hand.mapping(body)), "byteorder": "little",
           **{f"data/{key}": data for key, data in stored.items()}}  # fmt: skip
    return hostile.archive(raw)


def _as_legacy(numbers: Numbers) -> bytes:
    body = {name: hand.tensor(hand.storage(str(i), len(values)), (len(values),), (1,))
            for i, (name, values) in enumerate(numbers.items())}  # fmt: skip
    keys = [hand.text(str(i)) for i in range(len(numbers))]
    little = hand.mapping({"little_endian": hand.TRUE})
    head = (hand.number(hand.MAGIC), hand.number(1001), little, hand.mapping(body),
            hand.listed(*keys))  # fmt: skip
    parts = [struct.pack("<q", len(values)) + _floats(values) for values in numbers.values()]
    return b"".join(map(hand.pickled, head)) + b"".join(parts)


def _as_pickle(numbers: Numbers) -> bytes:
    return pickle.dumps({name: np.array(v, np.float32) for name, v in numbers.items()})


def _as_safetensors(numbers: Numbers) -> bytes:
    header, place = {}, 0
    for name, values in numbers.items():
        end = place + 4 * len(values)
        header[name] = {"dtype": "F32", "shape": [len(values)], "data_offsets": [place, end]}
        place = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(map(_floats, numbers.values()))


def _as_script(numbers: Numbers) -> bytes:
    names = list(numbers)
    state = {f"t{i}": hand.tensor(hand.storage(str(i + 1), len(values)), (len(values),), (1,))
             for i, values in enumerate(numbers.values())}  # fmt: skip
    lists = ", ".join(f'"t{i}"' for i in range(len(names)))
    code = hostile.HEAD.replace('"weight", "bias", ', f'"weight", "bias", {lists}, ')
    files = {f"data/{i + 1}": _floats(values) for i, values in enumerate(numbers.values())}
    return hostile.script(code + hostile.FORWARD, state=state, files=files)


def _as_program(numbers: Numbers) -> bytes:
    listed = hostile.entries()
    files: dict[str, bytes | str] = {}
    for i, (name, values) in enumerate(numbers.items()):
        listed["config"][name] = hostile.entry(f"w{i}", (len(values),))
        files[f"data/weights/w{i}"] = _floats(values)
    return hostile.program(None, listed, files)


_WRITERS = {
    "zip": _as_zip, "legacy": _as_legacy, "pickle": _as_pickle, "safetensors": _as_safetensors,
    "script": _as_script, "program": _as_program,
}  # fmt: skip


@st.composite
def files(draw: Any) -> Saved:
    """A checkpoint of one of the formats."""
    form = draw(st.sampled_from(FORMATS))
    values = st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=6)
    count = draw(st.integers(1, 4))
    given = {f"layer{i}.weight": draw(values) for i in range(count)}
    data = _WRITERS[form](given)
    # TorchScript keeps attributes of the model itself.
    named = {f"t{i}": v for i, v in enumerate(given.values())} if form == "script" else given
    return Saved(form, data, named)


@st.composite
def damaged(draw: Any, data: bytes) -> bytes:
    """One place of a file changed: cut, flipped, zeroed, overwritten, doubled, taken out."""
    place = draw(st.integers(0, len(data) - 1))
    length = draw(st.sampled_from((1, 2, 4, 16, 100)))
    match draw(st.sampled_from(("cut", "flip", "zero", "tail", "bytes", "double", "gone"))):
        case "cut":
            return data[:place]
        case "flip":
            flipped = bytes([data[place] ^ (1 << draw(st.integers(0, 7)))])
            return data[:place] + flipped + data[place + 1 :]
        case "zero":
            end = min(len(data), place + length)
            return data[:place] + bytes(end - place) + data[end:]
        case "tail":
            return data[:place] + bytes(len(data) - place)
        case "bytes":
            new = draw(st.binary(min_size=1, max_size=8))
            return data[:place] + new + data[place + len(new) :]
        case "double":
            return data[: place + length] + data[place:]
        case _:
            return data[:place] + data[place + length :]
