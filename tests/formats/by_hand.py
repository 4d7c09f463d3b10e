"""Pickles and archives put together by hand, for what torch does not write any more."""

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

MAGIC = 0x1950A86A20F9469CFC6C
NONE, TRUE, FALSE, EMPTY_TUPLE = b"N", b"\x88", b"\x89", b")"


def text(value: str) -> bytes:
    """Pushes a string."""
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def old_text(value: bytes) -> bytes:
    """Pushes a string as Python 2 wrote it."""
    return b"T" + struct.pack("<i", len(value)) + value


def number(value: int) -> bytes:
    """Pushes an integer."""
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def name(module: str, member: str) -> bytes:
    """Pushes a class or function."""
    return f"c{module}\n{member}\n".encode()


def several(*parts: bytes) -> bytes:
    """Pushes a tuple."""
    return b"(" + b"".join(parts) + b"t"


def listed(*parts: bytes) -> bytes:
    """Pushes a list."""
    return b"](" + b"".join(parts) + b"e"


def mapping(items: Mapping[str, bytes]) -> bytes:
    """Pushes a dictionary with string keys."""
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def call(function: bytes, *args: bytes) -> bytes:
    """Calls ``function``."""
    return function + several(*args) + b"R"


def build(target: bytes, state: bytes) -> bytes:
    """Sets the state of an object."""
    return target + state + b"b"


def storage(
    key: str = "0",
    numel: int = 4,
    kind: str = "FloatStorage",
    location: str = "cpu",
    *rest: bytes,
) -> bytes:
    """Pushes a persistent storage."""
    return (
        several(
            text("storage"), name("torch", kind), text(key), text(location), number(numel), *rest
        )
        + b"Q"
    )


def tensor(
    stored: bytes, shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0
) -> bytes:
    """Pushes a tensor over ``stored``."""
    sizes, steps = (several(*map(number, numbers)) for numbers in (shape, stride))
    hooks = call(name("collections", "OrderedDict"))
    return call(
        name("torch._utils", "_rebuild_tensor_v2"),
        stored, number(offset), sizes, steps, FALSE, hooks,
    )  # fmt: skip


def pickled(body: bytes) -> bytes:
    """A whole pickle of protocol 2."""
    return b"\x80\x02" + body + b"."


def torch_zip(
    path: Path,
    data: bytes,
    storages: Mapping[str, bytes] | None = None,
    *,
    byteorder: str | None = "little",
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    """Writes an archive as ``torch.save`` lays it out."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("model/data.pkl", data)
        if byteorder is not None:
            archive.writestr("model/byteorder", byteorder)
        for key, raw in (storages or {}).items():
            archive.writestr(f"model/data/{key}", raw)
        archive.writestr("model/version", "3\n")
    return path


def legacy_file(path: Path, body: bytes, storages: Mapping[str, tuple[int, bytes]]) -> Path:
    """Writes torch's older stream of pickles.

    Args:
        path: Where.
        body: Pickle instructions for the object.
        storages: By key the number of elements and the bytes.
    """
    head = (number(MAGIC), number(1001), mapping({"little_endian": TRUE}), body)
    keys = listed(*map(text, storages))
    parts = [pickled(part) for part in (*head, keys)]
    parts += [struct.pack("<q", count) + raw for count, raw in storages.values()]
    path.write_bytes(b"".join(parts))
    return path
