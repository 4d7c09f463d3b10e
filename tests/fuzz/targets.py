"""What is fuzzed: the readers, each fed with bytes, and judged by how they end.

A target returns normally or raises ``NormcheckError``; any other exception is a bug. It works
under limits so low that slow and hungry inputs are found as such.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

from normcheck.errors import NormcheckError
from normcheck.formats.legacy_pickles import embedded_storage
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.formats.reading_errors import complete
from normcheck.formats.registry import read_source
from normcheck.norms.find_norms import anatomy_of
from normcheck.pickles.machine import InertUnpickler
from normcheck.pickles.torch_objects import constructors
from normcheck.saved.checkpoint import Checkpoint
from normcheck.saved.dtypes import FLOAT32
from normcheck.saved.tensors import Storage
from normcheck.sources.limits import Budget, Limits
from normcheck.sources.source import MemorySource, stream
from tests.formats import by_hand as hand
from tests.formats.archives import Member, archive
from tests.formats.exports import hostile

LIMITS = Limits(
    memory_bytes=64 << 20, opcodes=20_000, pickle_bytes=1 << 20, json_bytes=1 << 16,
    unpacked_bytes=16 << 20, entries=10_000, modules=1_000, models=100, code_steps=20_000,
)  # fmt: skip
_IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
_SQUARE = {"square": hand.tensor(hand.storage("0", 8), (2, 4), (4, 1))}
_MAGIC = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."


def unpickler(data: bytes) -> None:
    """The pickle machine by itself."""
    budget = Budget(LIMITS)

    def embedded(value: object) -> object:
        return embedded_storage(value, budget)

    def persistent(_saved_id: object) -> Storage:
        return Storage("0", FLOAT32, 64)

    source = MemorySource(data, "fuzzed")
    table = constructors(LIMITS, embedded)
    InertUnpickler(stream(source), source.size, table, persistent, LIMITS, budget).load()


def whole_file(data: bytes) -> None:
    """A file from its first byte to the numbers of its norms."""
    _look_at(read_source(MemorySource(data, "fuzzed"), LIMITS))


def torch_zip(data: bytes) -> None:
    """The same, always taken for a zip archive."""
    whole_file(b"PK\x03\x04" + data[4:])


def legacy(data: bytes) -> None:
    """The same, always taken for torch's older stream of pickles."""
    whole_file(b"\x80\x02" + _MAGIC + data)


def safetensors(data: bytes) -> None:
    """The same, always taken for safetensors: the first two bytes are the header's length."""
    length = int.from_bytes(data[:2], "little") % (len(data) + 2) + 2
    whole_file(length.to_bytes(8, "little") + b"{" + data[2:])


def exported(data: bytes) -> None:
    """The JSON of an exported program, and its weights: parts between zero bytes."""
    graph, _, weights = data.partition(b"\0")
    _look_at(read_source(MemorySource(hostile.program(graph, weights), "fuzzed"), LIMITS))


def script(data: bytes) -> None:
    """The code of a TorchScript archive, over tensors that are as they should be."""
    _look_at(read_source(MemorySource(hostile.script(data, state=_SQUARE), "fuzzed"), LIMITS))


def onnx(data: bytes) -> None:
    """An ONNX file, always taken for one."""
    _look_at(read_source(MemorySource(b"\x08" + data[1:], "fuzzed"), LIMITS))


def tar(data: bytes) -> None:
    """A tar, each of whose headers has the checksum that it should have."""
    mended = bytearray(data)
    for at in range(0, len(mended) - 511, 512):
        if mended[at + 257 : at + 262] == b"ustar" or at == 0:
            mended[at + 148 : at + 156] = b" " * 8
            mended[at + 148 : at + 156] = b"%06o\0 " % sum(mended[at : at + 512])
    whole_file(bytes(mended))


def gzipped(data: bytes) -> None:
    """A gzip file, always taken for one."""
    whole_file(b"\x1f\x8b\x08" + data[3:])


def shards(data: bytes) -> None:
    """The safetensors of two ranks, without an index."""
    first, second = _two(data)
    _folder({f"shard-0000{n}-model.safetensors": d for n, d in ((1, first), (2, second))})


def distributed(data: bytes) -> None:
    """A folder of torch.distributed.checkpoint: its metadata, and the file of its chunks."""
    metadata, chunks = _two(data)
    _folder({".metadata": metadata, "__0_0.distcp": chunks})


def ranks(data: bytes) -> None:
    """A folder of DeepSpeed's: pickles of the model's file and of the optimizer's, ZeRO-3."""
    states, optimizer = _two(data)
    _folder(
        {
            "zero_pp_rank_0_mp_rank_00_model_states.pt": _zipped(states),
            "zero_pp_rank_0_mp_rank_00_optim_states.pt": _zipped(optimizer),
        }
    )


def _two(data: bytes) -> tuple[bytes, bytes]:
    """Two files: the first two bytes are the length of the first."""
    end = 2 + int.from_bytes(data[:2], "little")
    return data[2:end], data[end:]


def _zipped(pickled: bytes) -> bytes:
    storages = [Member(b"m/data/%d" % key, bytes(range(64))) for key in range(8)]
    return archive([Member(b"m/data.pkl", pickled), *storages])


def _folder(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory(dir=_IN_MEMORY) as name:
        for file, data in files.items():
            Path(name, file).write_bytes(data)
        checkpoint = read_checkpoint(Path(name), LIMITS)
        try:
            _look_at(checkpoint)
        finally:
            checkpoint.close()


def _look_at(checkpoint: Checkpoint) -> None:
    for model in checkpoint.models:
        for tensor in list(model.tensors.values())[:20]:
            if tensor.readable and tensor.numel < 1 << 16:
                tensor.values()
        anatomy_of(model)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "unpickler": unpickler,
    "zip": torch_zip,
    "legacy": legacy,
    "safetensors": safetensors,
    "file": whole_file,
    "exported": exported,
    "script": script,
    "onnx": onnx,
    "distributed": distributed,
    "ranks": ranks,
    "tar": tar,
    "gzip": gzipped,
    "shards": shards,
}


def holds(target: str, data: bytes) -> bool:
    """Run one input; whether it could be read.

    Raises:
        Exception: Whatever is no error of ours: the bug that was looked for.
    """
    try:
        TARGETS[target](data)
    except NormcheckError as error:
        complete(error, "fuzzed")
        if not (error.message and error.hint and len(error.message) < 2_000):
            raise AssertionError(f"an error that says too little or too much: {error}") from error
        return False
    except MemoryError:
        raise AssertionError("memory ran out below the limit") from None
    return True
