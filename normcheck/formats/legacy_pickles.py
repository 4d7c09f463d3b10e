"""The older forms: torch's stream of pickles, and a model dumped with plain ``pickle``.

The legacy torch format (before 1.6, and ``_use_new_zipfile_serialization=False``) is
five pickles in a row, magic number, protocol version, system information, the object,
the keys of its storages, and then the storages, each with its number of elements as a
little-endian int64 before its bytes.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from normcheck.errors import UnreadableError
from normcheck.pickles.inert import GlobalName, brief
from normcheck.pickles.machine import InertUnpickler
from normcheck.pickles.torch_objects import (
    Constructors,
    constructors,
    storage_dtype,
    storage_key,
)
from normcheck.saved.dtypes import UINT8
from normcheck.saved.tensors import PlainRegion, Storage
from normcheck.sources.limits import Budget
from normcheck.sources.source import MemorySource, Source, is_distant, stream

MAGIC = 0x1950A86A20F9469CFC6C
"""First value of a legacy torch file, ``MAGIC_NUMBER`` in torch/serialization.py."""
_PROTOCOL = 1001
_COUNT_BYTES = 8
_EMBEDDED_BYTES = 4_096
"""What reading a file within a file takes: its stream, its tables, what is left of them."""


def read_pickle_stream(source: Source, budget: Budget) -> tuple[object, bool, int]:
    """The object in a file that begins with a pickle.

    Returns:
        The object, whether the file is torch's legacy format, and the place in bytes where
        what was read ends.
    """
    embedded = partial(embedded_storage, budget=budget)
    return _read(source, constructors(budget.limits, embedded), budget)


def embedded_storage(data: object, budget: Budget) -> Storage:
    """A storage that was pickled as a torch file of its own inside another pickle.

    That is how ``pickle.dump`` writes tensors. Such a file holds one storage and nothing
    else, so no further nesting is followed.
    """
    if not isinstance(data, bytes):
        raise TypeError("an embedded storage that is no bytes")
    embedded = MemorySource(data, "embedded storage")
    budget.spend(_EMBEDDED_BYTES)
    value, *_ = _read(embedded, constructors(budget.limits), budget)
    if not isinstance(value, Storage):
        raise TypeError("an embedded file that holds no storage")
    return value


def _read(source: Source, table: Constructors, budget: Budget) -> tuple[object, bool, int]:
    data = stream(source)
    storages: dict[str, Storage] = {}

    def load(persistent: Callable[[object], object] | None = None) -> object:
        machine = InertUnpickler(
            data,
            source.size,
            table,
            persistent,
            budget.limits,
            budget,
            arrays=partial(PlainRegion, source),
        )
        return machine.load()

    first = load()
    if first != MAGIC or isinstance(first, bool):
        return first, False, data.tell()
    version = load()
    if version != _PROTOCOL:
        raise UnreadableError(
            f"{source.name}: legacy torch file of unknown version {brief(version)}",
            "load it with the torch that wrote it and save it again",
        )
    # System information. It names a byte order, which torch itself never reads: storages
    # are written little-endian on every machine (THPStorage_writeFileRaw).
    load()
    value = load(partial(_persistent, source.name, storages))
    keys = load()
    if not isinstance(keys, list):
        raise UnreadableError(f"{source.name}: the list of storages is missing")
    position = data.tell()
    if is_distant(source):
        source.fetch_ahead(list(_expected(storages, map(storage_key, keys), position)))
    for key in map(storage_key, keys):
        position = _locate(source, storages.get(key), key, position)
    missing = next((s for s in storages.values() if s.root is None and s.region is None), None)
    if missing is not None:
        raise UnreadableError(
            f"{source.name}: the bytes of storage {missing.key:.40} are not in the file",
            "the file is damaged; fetch it again",
        )
    return value, True, position


def _persistent(name: str, storages: dict[str, Storage], saved_id: object) -> object:
    if not isinstance(saved_id, tuple) or not saved_id:
        raise UnreadableError(f"{name}: a persistent id of an unknown kind")
    kind = saved_id[0].decode("latin-1") if isinstance(saved_id[0], bytes) else saved_id[0]
    if kind == "module" and len(saved_id) > 1 and isinstance(saved_id[1], GlobalName):
        # The class, its source file and its source text, which is of no use here.
        return saved_id[1]
    if kind != "storage" or len(saved_id) < 5:
        raise UnreadableError(f"{name}: a persistent id of an unknown kind")
    _, cls, key, _location, numel, *views = saved_id
    root = _storage(storages, storage_key(key), cls, numel)
    view = views[0] if views else None
    if view is None:
        return root
    if not isinstance(view, tuple) or len(view) != 3:
        raise UnreadableError(f"{name}: a storage view of an unknown form")
    view_key, offset, size = view
    if type(offset) is not int or type(size) is not int or min(offset, size) < 0:
        raise UnreadableError(f"{name}: a storage view outside its storage")
    width = root.dtype.itemsize
    if (offset + size) * width > root.nbytes:
        raise UnreadableError(f"{name}: a storage view outside its storage")
    view_name = f"view {storage_key(view_key)}"
    if view_name not in storages:
        storages[view_name] = Storage(
            view_name, root.dtype, size * width, root=root, start=offset * width
        )
    return storages[view_name]


def _storage(storages: dict[str, Storage], key: str, cls: object, numel: object) -> Storage:
    dtype = storage_dtype(cls)
    if type(numel) is not int or numel < 0:
        raise UnreadableError(f"storage {key:.40} has no valid length")
    known = storages.get(key)
    if known is None:
        storages[key] = known = Storage(key, dtype, numel * dtype.itemsize)
    elif dtype is not known.dtype and UINT8 in (dtype, known.dtype):
        # The same bytes seen as an untyped storage by one tensor and typed by another.
        return Storage(f"{key} as {dtype.name}", dtype, known.nbytes, root=known)
    return known


def _expected(
    storages: dict[str, Storage], keys: Iterable[str], position: int
) -> Iterator[tuple[int, int]]:
    """Where the lengths of the storages lie if each is as long as the pickle says."""
    for key in keys:
        yield position, _COUNT_BYTES
        if key in storages:
            position += _COUNT_BYTES + storages[key].nbytes


def _locate(source: Source, storage: Storage | None, key: str, position: int) -> int:
    """Note where a storage's bytes lie; returns where the next one begins."""
    if storage is None:
        raise UnreadableError(
            f"{source.name}: storage {key:.40} is listed but belongs to nothing",
            "the file is damaged; fetch it again",
        )
    count = int.from_bytes(source.read_at(position, _COUNT_BYTES), "little", signed=True)
    nbytes = count * storage.dtype.itemsize
    if count < 0 or nbytes != storage.nbytes:
        raise UnreadableError(
            f"{source.name}: storage {key:.40} has {nbytes:,} bytes, "
            f"the pickle says {storage.nbytes:,}",
            "the file is damaged; fetch it again",
        )
    start = position + _COUNT_BYTES
    if start + nbytes > source.size:
        raise UnreadableError(
            f"{source.name}: the file ends within storage {key:.40}",
            "it is probably a truncated download; fetch it again and compare sizes",
        )
    storage.region = PlainRegion(source, start, nbytes)
    return start + nbytes
