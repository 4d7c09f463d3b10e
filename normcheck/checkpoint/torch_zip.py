"""Files that ``torch.save`` writes today: a zip with one pickle and one member a storage.

``<root>/data.pkl`` is the pickle, ``<root>/data/<key>`` the bytes of a storage,
``<root>/byteorder`` says ``little`` or ``big``. torch stores all of them uncompressed,
so a tensor's bytes can be read where they lie.
"""

import struct
import zipfile
import zlib
from dataclasses import dataclass
from functools import partial

from normcheck.checkpoint.limits import Limits
from normcheck.checkpoint.plain_pickle import embedded_storage
from normcheck.checkpoint.source import MemorySource, Source, stream
from normcheck.checkpoint.tensors import PlainRegion, Region, Storage
from normcheck.checkpoint.torch_objects import constructors, storage_dtype, storage_key
from normcheck.checkpoint.unpickler import InertUnpickler
from normcheck.errors import RefusedError, UnreadableError

_LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Of a zip member: signature, then the lengths of its name and of its extra field."""
_ENCRYPTED = 0x1
_PAGE = 4096
"""Bytes of a packed pickle up to which its ratio says nothing."""


_NOT_UNPACKED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError)
"""What ``zipfile`` raises for a damaged member."""


@dataclass(frozen=True, slots=True)
class CompressedRegion:
    """A member of a zip that somebody packed again with compression; torch never does."""

    archive: zipfile.ZipFile
    member: zipfile.ZipInfo

    @property
    def nbytes(self) -> int:
        """Length when unpacked, as the archive declares it."""
        return self.member.file_size

    def read(self, start: int, length: int) -> bytes:
        """Unpack up to the end of what is asked for."""
        try:
            with self.archive.open(self.member) as unpacked:
                unpacked.seek(start)
                data = unpacked.read(length)
        except _NOT_UNPACKED as error:
            raise _cannot_unpack(self.member, error) from error
        if len(data) != length:
            raise _cannot_unpack(self.member, EOFError("it ends early"))
        return data


def _cannot_unpack(member: zipfile.ZipInfo, error: Exception) -> UnreadableError:
    return UnreadableError(
        f"{member.filename[:80]} cannot be unpacked ({error})",
        "the file is damaged; fetch it again",
    )


def open_archive(source: Source) -> zipfile.ZipFile:
    """The zip directory of ``source``.

    Raises:
        UnreadableError: It begins like a zip and is none, most often cut off.
    """
    try:
        return zipfile.ZipFile(stream(source))
    except (*_NOT_UNPACKED, struct.error, OverflowError) as error:
        raise UnreadableError(
            f"{source.name}: a zip archive whose directory cannot be read ({error})",
            "it is probably a truncated download; fetch it again and compare sizes",
        ) from error


def pickle_member(archive: zipfile.ZipFile) -> zipfile.ZipInfo | None:
    """The member that holds the pickle of a torch file; None where there is none."""
    found = [
        member
        for member in archive.infolist()
        if member.filename == "data.pkl" or member.filename.endswith("/data.pkl")
    ]
    return min(found, key=lambda member: member.filename.count("/")) if found else None


def read_torch_zip(source: Source, archive: zipfile.ZipFile, limits: Limits) -> object:
    """The object that was saved, with inert objects and lazy tensors in it."""
    pickled = pickle_member(archive)
    if pickled is None:
        raise UnreadableError(f"{source.name}: a zip archive without data.pkl, not torch's")
    if pickled.file_size > limits.pickle_bytes:
        raise RefusedError(
            f"{source.name}: its pickle is {pickled.file_size:,} bytes, "
            f"the limit is {limits.pickle_bytes:,}"
        )
    if pickled.file_size > limits.unpacked_ratio * max(pickled.compress_size, _PAGE):
        raise RefusedError(
            f"{source.name}: its pickle of {pickled.file_size:,} bytes is packed into "
            f"{pickled.compress_size:,}"
        )
    root = pickled.filename.removesuffix("data.pkl")
    big_endian = _byteorder(source, archive, root) == b"big"
    storages: dict[str, Storage] = {}

    def persistent(saved_id: object) -> Storage:
        if not isinstance(saved_id, tuple) or len(saved_id) < 5 or saved_id[0] != "storage":
            raise UnreadableError(f"{source.name}: a persistent id of an unknown kind")
        _, cls, named, location, numel, *_ = saved_id
        key = storage_key(named)
        if key not in storages:
            dtype = storage_dtype(cls)
            if type(numel) is not int or numel < 0:
                raise UnreadableError(f"{source.name}: storage {key:.40} has no valid length")
            nbytes = numel * dtype.itemsize
            # Tensors on the meta device are saved with a location and without bytes.
            region = None if location == "meta" else _region(source, archive, f"{root}data/{key}")
            if region is not None and region.nbytes < nbytes:
                raise UnreadableError(
                    f"{source.name}: storage {key:.40} has {region.nbytes:,} bytes, "
                    f"the pickle says {nbytes:,}",
                    "the file is damaged; fetch it again or save it again",
                )
            storages[key] = Storage(key, dtype, nbytes, big_endian, region)
        return storages[key]

    data = _member_bytes(source, archive, pickled)
    table = constructors(limits, partial(embedded_storage, limits=limits))
    memory = MemorySource(data, source.name)
    return InertUnpickler(stream(memory), memory.size, table, persistent, limits).load()


def _byteorder(source: Source, archive: zipfile.ZipFile, root: str) -> bytes:
    # Absent in files of torch before 2.1, which were little-endian on every machine
    # that anybody trained on; torch.load makes the same assumption.
    try:
        member = archive.getinfo(f"{root}byteorder")
    except KeyError:
        return b"little"
    return _member_bytes(source, archive, member).strip() if member.file_size < 64 else b"little"


def _member_bytes(source: Source, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    _check_packing(source, member)
    try:
        return archive.read(member)
    except _NOT_UNPACKED as error:
        raise _cannot_unpack(member, error) from error


def _region(source: Source, archive: zipfile.ZipFile, name: str) -> Region:
    try:
        member = archive.getinfo(name)
    except KeyError as error:
        raise UnreadableError(
            f"{source.name}: the storage {name} is missing from the archive",
            "the file is damaged; fetch it again or save it again",
        ) from error
    _check_packing(source, member)
    if member.compress_type != zipfile.ZIP_STORED:
        return CompressedRegion(archive, member)
    # The directory's copy of name and extra field may differ in length from the local one,
    # which torch pads to align the data: only the local header says where the bytes begin.
    signature, name_length, extra_length = _LOCAL_HEADER.unpack(
        source.read_at(member.header_offset, _LOCAL_HEADER.size)
    )
    offset = member.header_offset + _LOCAL_HEADER.size + name_length + extra_length
    if signature != b"PK\x03\x04" or offset + member.file_size > source.size:
        raise UnreadableError(
            f"{source.name}: the archive member {name} lies outside the file",
            "the file is damaged; fetch it again",
        )
    return PlainRegion(source, offset, member.file_size)


def stored_region(source: Source, archive: zipfile.ZipFile, name: str) -> PlainRegion | None:
    """Where the bytes of a member lie as they are; None where they are compressed."""
    region = _region(source, archive, name)
    return region if isinstance(region, PlainRegion) else None


def _check_packing(source: Source, member: zipfile.ZipInfo) -> None:
    if member.flag_bits & _ENCRYPTED:
        what = "is encrypted"
    elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        what = "is compressed by an unusual method"
    else:
        return
    raise UnreadableError(
        f"{source.name}: {member.filename[:80]} {what}", "unpack it and scan the result"
    )
