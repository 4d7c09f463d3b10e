"""A mutation loop for where no coverage-guided fuzzer is installed, and for the tests.

It knows the formats a little: it splices pickle instructions and zip signatures, moves lengths
to their edges, and keeps the checksums of an archive's pickle right, as otherwise nearly every
change ends there.
"""

import random
import struct
import zlib

_TOKENS = (
    b"(", b")", b"}", b"]", b"\x8f", b"\x90", b"\x91", b"R", b"\x81", b"b", b"o", b"2", b"0", b"1",
    b"s", b"u", b"a", b"e", b"t", b"\x85", b"\x86", b"\x87", b"Q", b"h\x00", b"q\x00", b"\x94",
    b"\x93", b"\x92", b"\x82\x01", b"N", b"K\x00", b"M\xff\xff", b"J\xff\xff\xff\x7f", b".",
    b"\x95\xff\xff\xff\xff\xff\xff\xff\xff", b"X\x01\x00\x00\x00a", b"X\xff\xff\xff\xff",
    b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x8b\xff\xff\xff\x7f", b"cos\nsystem\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n", b"ios\nsystem\n",
    b"ctorch\nFloatStorage\n", b"ctorch.storage\n_load_from_bytes\n", b"cbuiltins\nset\n",
    b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b'"', b"{", b"[",
    b'"shape":[', b'"data_offsets":[0,', b'"dtype":"F32"', b"9999999999999999999", b"-1", b"1e99",
    b'{"as_int":1}', b'{"as_tensor":{"name":"x"}}', b"null", b"[]", b'"p_weight"', b'"as_ints"',
    b"torch.ops.aten.rsqrt.default", b"torch.ops.aten.add.Tensor", b"torch.ops.aten.cat.default",
    b"(a, a)", b"self.", b"torch.add(", b"torch.batch_norm(", b"\n    ", b"if x:", b"CONSTANTS.c9",
)  # fmt: skip
_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1)


def mutated(seeds: list[bytes], chance: random.Random) -> bytes:
    """One of the seeds, changed in a few places."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5, 9))):
        place = chance.randrange(len(data) + 1)
        kind = chance.randrange(7)
        if kind == 0 and data:
            data[place % len(data)] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[place:place] = chance.choice(_TOKENS)
        elif kind == 2:
            token = chance.choice(_TOKENS)
            data[place : place + len(token)] = token
        elif kind == 3:
            layout = chance.choice(("<B", "<H", "<I", "<Q"))
            size = struct.calcsize(layout)
            edge = chance.choice(_EDGES) & ((1 << 8 * size) - 1)
            data[place : place + size] = struct.pack(layout, edge)
        elif kind == 4:
            del data[place : place + chance.choice((1, 2, 4, 16, 200))]
        elif kind == 5:
            other = chance.choice(seeds)
            begin = chance.randrange(len(other) + 1)
            data[place:place] = other[begin : begin + chance.choice((1, 4, 16, 64, 256))]
        else:
            run = bytes(data[place : place + chance.choice((1, 3, 12, 60))])
            data[place:place] = run * chance.choice((1, 2, 8))
    return bytes(data[: 1 << 17])


def resealed(data: bytes) -> bytes:
    """An archive whose stored members' checksums fit what is there now, where it can be told."""
    sealed = bytearray(data)
    end = data.rfind(b"PK\x05\x06")
    if end < 0 or end + 22 > len(data):
        return data
    place = struct.unpack_from("<I", data, end + 16)[0]
    while data[place : place + 4] == b"PK\x01\x02" and place + 46 <= len(data):
        method = struct.unpack_from("<H", data, place + 10)[0]
        size = struct.unpack_from("<I", data, place + 20)[0]
        lengths = struct.unpack_from("<HHH", data, place + 28)
        offset = struct.unpack_from("<I", data, place + 42)[0]
        if method == 0 and offset + 30 <= len(data):
            name, extra = struct.unpack_from("<HH", data, offset + 26)
            begin = offset + 30 + name + extra
            checksum = zlib.crc32(data[begin : begin + size])
            struct.pack_into("<I", sealed, place + 16, checksum)
        place += 46 + sum(lengths)
    return bytes(sealed)
