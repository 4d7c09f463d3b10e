"""Files that ``torch.save`` writes today: a zip with one pickle and one member a storage.

``<root>/data.pkl`` is the pickle, ``<root>/data/<key>`` the bytes of a storage,
``<root>/byteorder`` says ``little`` or ``big``. torch stores all of them uncompressed,
so a tensor's bytes can be read where they lie.
"""

import io
import zipfile
from functools import partial

from normcheck.errors import RefusedError, UnreadableError
from normcheck.formats.legacy_pickles import embedded_storage
from normcheck.formats.zip_directory import Archive
from normcheck.formats.zip_members import StoredRegion, find, find_named
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.pickles.machine import InertUnpickler
from normcheck.pickles.memo import asked_for
from normcheck.pickles.torch_objects import constructors, storage_dtype, storage_key
from normcheck.saved.dtypes import DType
from normcheck.saved.tensors import Region, Storage
from normcheck.sources.limits import Budget
from normcheck.sources.source import Source

_PAGE = 4096
"""Bytes of a packed pickle up to which its ratio says nothing."""
_BYTEORDERS = {b"little": False, b"big": True}


def pickle_member(archive: Archive) -> zipfile.ZipInfo | None:
    """The member that holds the pickle of a torch file; None where there is none."""
    found = [n for n in archive.namelist() if n.endswith("data.pkl") and n[-9:-8] in ("", "/")]
    if not found:
        return None
    depth = min(name.count("/") for name in found)
    outermost = [name for name in found if name.count("/") == depth]
    if len(outermost) > 1:
        names = " and ".join(name[:80] for name in outermost[:2])
        raise UnreadableError(
            f"the archive holds several pickles, {names}: which one a program reads is its choice",
            "unpack it, and scan the checkpoint that you mean",
        )
    return archive.getinfo(outermost[0])


def read_torch_zip(source: Source, archive: Archive, budget: Budget, part: str = "data") -> object:
    """The object that was saved, with inert objects and lazy tensors in it.

    Args:
        source: The file.
        archive: Its directory.
        budget: Of the file.
        part: TorchScript keeps a second pickle, ``constants``, with storages of its own.
    """
    pickled = pickle_member(archive)
    if pickled is None:
        raise UnreadableError(f"{source.name}: a zip archive without data.pkl, not torch's")
    root = pickled.filename.removesuffix("data.pkl")
    if part != "data":
        pickled = archive.getinfo(f"{root}{part}.pkl")
    places = Places(root + "byteorder", f"{root}{part}/{{}}")
    return read_pickled(source, archive, pickled, places, budget)


@lazy_dataclass()
class Places:
    """Where an archive keeps what its pickles refer to."""

    byteorder: str
    """The member that names it."""
    storages: str
    """The member of a storage, with braces for its key."""
    package: bool = False
    """Whether it is one of ``torch.package``, which keeps other objects outside, too."""


def read_pickled(
    source: Source,
    archive: Archive,
    pickled: zipfile.ZipInfo,
    places: Places,
    budget: Budget,
) -> object:
    """The object in one pickle of an archive, with inert objects and lazy tensors in it.

    Args:
        source: The file.
        archive: Its directory.
        pickled: The member with the pickle.
        places: Of the storages that it refers to.
        budget: Of the file.
    """
    limits = budget.limits
    if pickled.file_size > limits.pickle_bytes:
        raise RefusedError(
            f"{source.name}: its pickle is {pickled.file_size:,} bytes, "
            f"the limit is {limits.pickle_bytes:,}",
            limit="pickle_bytes",
        )
    if pickled.file_size > limits.unpacked_ratio * max(pickled.compress_size, _PAGE):
        raise RefusedError(
            f"{source.name}: its pickle of {pickled.file_size:,} bytes is packed into "
            f"{pickled.compress_size:,}",
            limit="unpacked_ratio",
        )
    big_endian = _is_big_endian(source, archive, places.byteorder, budget)
    before, behind = places.storages.split("{}")
    storages: dict[str, Storage] = {}
    classes: dict[int, tuple[object, DType]] = {}

    def persistent(saved_id: object) -> object:
        if places.package and isinstance(saved_id, tuple) and saved_id[:1] == ("reduce_package",):
            return saved_id[1:]  # what a module of its own is made of
        if not isinstance(saved_id, tuple) or len(saved_id) < 5 or saved_id[0] != "storage":
            raise UnreadableError(f"{source.name}: a persistent id of an unknown kind")
        _, cls, named, location, numel, *_ = saved_id
        key = storage_key(named)
        if key not in storages:
            known = classes.get(id(cls))
            if known is None:
                known = classes[id(cls)] = (cls, storage_dtype(cls))
            dtype = known[1]
            if type(numel) is not int or numel < 0:
                raise UnreadableError(f"{source.name}: storage {key:.40} has no valid length")
            nbytes = numel * dtype.itemsize
            # Tensors on the meta device are saved with a location and without bytes.
            region = (
                None
                if location == "meta"
                else _region(source, archive, f"{before}{key}{behind}", budget)
            )
            if region is not None and region.nbytes < nbytes:
                raise UnreadableError(
                    f"{source.name}: storage {key:.40} has {region.nbytes:,} bytes, "
                    f"the pickle says {nbytes:,}",
                    "the file is damaged; fetch it again or save it again",
                )
            storages[key] = Storage(key, dtype, nbytes, big_endian, region)
        return storages[key]

    region = find(source, pickled, budget)
    budget.spend(2 * region.nbytes)  # as one piece, and while it is put together
    data = region.read(0, region.nbytes)
    table = constructors(limits, partial(embedded_storage, budget=budget))
    machine = InertUnpickler(
        io.BytesIO(data), region.nbytes, table, persistent, limits, budget, asked_for(data)
    )
    return machine.load()


def _is_big_endian(source: Source, archive: Archive, name: str, budget: Budget) -> bool:
    # Absent in files of torch before 2.1, which were little-endian on every machine
    # that anybody trained on; torch.load makes the same assumption.
    try:
        region = find_named(source, archive, name, budget)
    except KeyError:
        return False
    order = region.read(0, min(region.nbytes, 64)).strip()
    if order not in _BYTEORDERS:
        raise UnreadableError(
            f"{source.name}: a byte order that is neither little nor big",
            "the file is damaged; fetch it again",
        )
    return _BYTEORDERS[order]


def _region(source: Source, archive: Archive, name: str, budget: Budget) -> Region:
    try:
        return find_named(source, archive, name, budget)
    except KeyError as error:
        raise UnreadableError(
            f"{source.name}: the storage {name} is missing from the archive",
            "the file is damaged; fetch it again or save it again",
        ) from error


def stored_region(source: Source, archive: Archive, name: str) -> StoredRegion | None:
    """Where the bytes of a member lie as they are; None where they are compressed."""
    region = _region(source, archive, name, Budget())
    return region if isinstance(region, StoredRegion) else None
