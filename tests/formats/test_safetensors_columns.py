"""Headers read into columns: the same as when each tensor is looked at by itself."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from normcheck.errors import NormcheckError
from normcheck.formats import safetensors_file
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.saved.tensor_columns import TensorColumns
from normcheck.saved.tensors import PlainRegion, TensorRef
from normcheck.saved.unread_tensors import unread_notes

_SIZES = {"F32": 4, "BF16": 2, "I64": 8, "F8_E4M3": 1, "F4": 1}


def header_of(chance: random.Random, *, odd: bool) -> dict[str, Any]:
    """A valid header; an odd one has a type that is only listed."""
    header: dict[str, Any] = {}
    if chance.random() < 0.3:
        header["__metadata__"] = {"format": "pt", "é\n": "x"}
    place = 0
    for number in chance.sample(range(200), chance.randrange(1, 12)):
        dtype = chance.choice(list(_SIZES)[: 5 if odd else 4])
        shape = [chance.randrange(1 if chance.random() < 0.9 else 0, 4)] * chance.randrange(4)
        size = _SIZES[dtype]
        for length in shape:
            size *= length
        name = f"{chance.choice(('a', 'layer', 'h.é', 'b-'))}{number}.{chance.choice('wx')}"
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [place, place + size]}
        place += size
    return header


def file_of(header: str | bytes, end: int, path: Path) -> Path:
    """A file with such a header, and so many bytes behind it."""
    raw = header if isinstance(header, bytes) else header.encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(range(256)) * 40)
    with path.open("r+b") as file:
        file.truncate(8 + len(raw) + end)
    return path


def told(path: Path) -> Any:
    """All that a reader says of a file."""
    try:
        checkpoint = read_checkpoint(path)
    except NormcheckError as error:
        return type(error), error.message, error.hint
    (model,) = checkpoint.models
    tensors = [(name, *_described(tensor)) for name, tensor in model.tensors.items()]
    notes = list(unread_notes(model))
    checkpoint.close()
    return tensors, checkpoint.notes, notes


def _described(tensor: TensorRef) -> tuple[object, ...]:
    region = tensor.storage.region if tensor.storage is not None else None
    place = (region.offset, region.nbytes) if isinstance(region, PlainRegion) else None
    nbytes = tensor.storage.nbytes if tensor.storage is not None else None
    return (tensor.dtype.name, tensor.shape, tensor.strides, tensor.offset, tensor.note,
            tensor.requires_grad, tensor.parameter, nbytes, place)  # fmt: skip


def damaged(text: str, chance: random.Random) -> bytes:
    """A header with one place of it changed, doubled or left out."""
    raw = bytearray(text.encode())
    at = chance.randrange(len(raw))
    match chance.randrange(4):
        case 0:
            raw[at : at + 1] = chance.choice((b"", b" ", b"\x0c", b"\n\t", b"\\", b'"', b"0", b"-"))
        case 1:
            raw[at] = chance.randrange(256)
        case 2:
            del raw[at : at + chance.randrange(1, 30)]
        case _:
            entry = text[text.find(',"') if ',"' in text else 0 : at].encode()
            raw[at:at] = entry
    return bytes(raw)


@pytest.mark.parametrize("seed", range(300))
def test_both_ways_tell_the_same(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors, notes and errors of a header, valid or damaged, do not depend on the way."""
    chance = random.Random(seed)  # noqa: S311
    header = header_of(chance, odd=seed % 10 == 9)
    end = max((e["data_offsets"][1] for e in header.values() if "dtype" in e), default=0)
    gaps = chance.choice(((",", ":"), (", ", ": "), (" ,\n", "\t: ")))
    text = json.dumps(header, separators=gaps, ensure_ascii=chance.random() < 0.3)
    raw = text.encode() if seed % 3 else damaged(text, chance)
    end += chance.choice((0, 0, 0, 0, 1, -1)) if end else 0
    path = file_of(raw, end, tmp_path / "model.safetensors")
    columns = told(path)
    monkeypatch.setattr(safetensors_file, "read_columns", lambda *_: None)
    assert columns == told(path)


def test_what_the_library_writes_is_read_into_columns(tmp_path: Path) -> None:
    """With metadata and without; nothing is made of a tensor before it is asked for."""
    for seed in range(20):
        header = header_of(random.Random(seed), odd=False)  # noqa: S311
        end = max(e["data_offsets"][1] for e in header.values() if "dtype" in e)
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False)
        text = text.replace("é\\n", "note")  # an escape in metadata is fine, one in a name is not
        checkpoint = read_checkpoint(file_of(text, end, tmp_path / "model.safetensors"))
        tensors = checkpoint.models[0].tensors
        assert isinstance(tensors, TensorColumns)
        assert list(tensors.shapes()) == [tensor.shape for tensor in tensors.values()]
        name = next(iter(tensors))
        assert tensors[name] is tensors[name]
        assert "nothing" not in tensors
        assert tensors.get("nothing") is None
        checkpoint.close()


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":{"dtype":"F32","shape":[01],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[1,],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}\x0c',
        b'{"a":{"dtype":"F32","shape":[1],\x0b"data_offsets":[0,4]}}',
        b'{"__metadata__":{"x":"1","x":"2"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        (
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
            b'"a":{"dtype":"F32","shape":[0],"data_offsets":[4,4]}}'
        ),
        (
            b'{"a":{"dtype":"F32","shape":[0,4611686018427387904,4611686018427387904],'
            b'"data_offsets":[0,0]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
        ),
    ],
)
def test_errors_stay_errors(header: bytes, tmp_path: Path) -> None:
    """What JSON or the format forbids is refused, and nothing is read past it."""
    with pytest.raises(NormcheckError):
        read_checkpoint(file_of(header, 4, tmp_path / "model.safetensors"))
