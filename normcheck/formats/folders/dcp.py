"""Folders of ``torch.distributed.checkpoint``: ``.metadata`` and files of many small archives.

``.metadata`` is a pickle of dataclasses: for each tensor its shape, element type and chunks, and
for each chunk the file, the place in it, and the length of a ``torch.save`` archive that holds it.
FSDP, Accelerate, Megatron (``torch_dist``), Lightning and torchtitan write it. Names are those of
``torch/distributed/checkpoint/metadata.py``; none of its classes is loaded.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from normcheck.errors import UnreadableError
from normcheck.formats.folders.folder_kinds import METADATA
from normcheck.formats.legacy_pickles import read_pickle_stream
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.pickles.inert import Inert, attributes_of, entries_of
from normcheck.pickles.torch_objects import dtype_named
from normcheck.saved.tensor_pieces import Piece, in_pieces
from normcheck.saved.tensors import TensorRef, tensor_without_data
from normcheck.sources.limits import Budget, Limits
from normcheck.sources.opening import FilePart, Files, open_source
from normcheck.sources.place import Place
from normcheck.sources.source import Source
from normcheck.wording import plural

_TENSOR_BYTES = 2_048
"""A tensor with its chunks and place by name, from above."""
_LONGEST_NAME = 255
_WRITER = re.compile(r"__(\d{1,6})_\d+\.distcp")
"""Names of files begin with the rank that wrote them."""
_STATISTICS = ("running_mean", "running_var")


@lazy_dataclass()
class Distributed:
    """What such a folder holds."""

    root: dict[Any, object]
    """The saved state with its nesting; None stands for what is no tensor."""
    size: int
    """Length in bytes of everything stored."""
    files: int
    sources: tuple[Source, "_Closing"]
    note: str = ""
    """Which ranks the running statistics come from, where they are several."""


class _Closing:
    """The folder's files, for those who close a checkpoint's sources."""

    def __init__(self, files: Files) -> None:
        self._files = files

    @property
    def name(self) -> str:
        return self._files.name

    @property
    def size(self) -> int:
        return 0

    def read_at(self, offset: int, length: int) -> bytes:  # noqa: ARG002  (as of any source)
        raise UnreadableError(f"{self.name}: a folder has no bytes of its own")

    def close(self) -> None:
        self._files.close()


def read_distributed(folder: Place, budget: Budget) -> Distributed:
    """The state that was saved, with lazy tensors.

    Raises:
        UnreadableError: Damaged, or of a form that is not known.
        RefusedError: Past the limits.
    """
    metadata = open_source(folder / METADATA)
    try:
        root, *_ = read_pickle_stream(metadata, budget)
        described = attributes_of(root)
        stored = entries_of(described.get("state_dict_metadata"))
        placed = entries_of(described.get("storage_data"))
        if not stored or not placed:
            raise UnreadableError(
                f"{metadata.name}: not the metadata of a torch.distributed checkpoint",
                "the folder is damaged or of a newer torch; save the model with torch.save",
            )
        files = Files(folder)
        places = dict(_places(placed))
        paths = entries_of(described.get("planner_data"))
        tree: dict[Any, object] = {}
        budget.spend(len(stored) * _TENSOR_BYTES)
        for name in _in_order(stored, paths):
            if isinstance(name, str):
                entry = stored[name]
                value = _tensor(name, attributes_of(entry), places, files, budget.limits)
                _put(tree, paths.get(name), name, value)
        size = metadata.size + sum(place.length for place in places.values())
    except BaseException:
        metadata.close()
        raise
    names = {place.file for place in places.values()}
    return Distributed(tree, size, len(names), (metadata, _Closing(files)), _writers(places))


@lazy_dataclass()
class _Place:
    file: str
    offset: int
    length: int
    transformed: bool


def _places(placed: Mapping[object, object]) -> Iterator[tuple[tuple[str, object], _Place]]:
    """Where the chunks lie, by name of the tensor and offset of the chunk in it."""
    for key, value in placed.items():
        index, info = attributes_of(key), attributes_of(value)
        name, file = index.get("fqn"), info.get("relative_path")
        offset, length = info.get("offset"), info.get("length")
        if (
            not isinstance(name, str)
            or not isinstance(file, str)
            or type(offset) is not int
            or type(length) is not int
            or min(offset, length) < 0
        ):
            raise UnreadableError("the place of a chunk is not valid")
        if not _is_file_name(file):
            raise UnreadableError(
                f"the chunk of {name:.80} lies in {file!r:.80}, which is no plain file name",
                "the metadata were changed or made to harm; fetch the folder again",
            )
        transformed = bool(info.get("transform_descriptors"))
        at = index.get("offset")
        if at is not None:
            at = _lengths(name, at)  # a key must be safe to hash
        yield (name, at), _Place(file, offset, length, transformed)


def _is_file_name(name: str) -> bool:
    return (
        name.isprintable()
        and not {"/", "\\"} & set(name)
        and name not in ("", ".", "..")
        and len(name) <= _LONGEST_NAME
    )


def _tensor(
    name: str,
    entry: Mapping[Any, object],
    places: Mapping[tuple[str, object], _Place],
    files: Files,
    limits: Limits,
) -> TensorRef | None:
    shape, chunks = entry.get("size"), entry.get("chunks")
    properties = entry.get("properties")
    if not isinstance(shape, tuple) or not isinstance(chunks, list):
        return None  # bytes: numbers, schedulers, random states
    state = properties.state if isinstance(properties, Inert) else None
    kind = (
        state[0] if isinstance(state, tuple) and state else attributes_of(properties).get("dtype")
    )
    dtype = dtype_named(kind)
    lengths = _lengths(name, shape)
    if dtype is None:
        raise UnreadableError(f"{name:.80}: a tensor of an element type that is not known")
    pieces = []
    for chunk in chunks:
        described = attributes_of(chunk)
        offsets = _lengths(name, described.get("offsets"))
        sizes = _lengths(name, described.get("sizes"))
        place = places.get((name, offsets))
        if place is None:
            raise UnreadableError(
                f"{name:.80}: the metadata do not say where a chunk of it lies",
                "the folder is damaged; copy it again",
            )
        if place.transformed:
            return tensor_without_data(dtype, lengths, "stored in a packed form")
        part = FilePart(files, place.file, place.offset, place.length)
        pieces.append(Piece(offsets, sizes, _opener(part, limits), ((part, 0, place.length),)))
    return in_pieces(name, lengths, dtype, pieces, limits)


def _opener(part: FilePart, limits: Limits) -> Any:
    opened: list[TensorRef] = []

    def tensor() -> TensorRef:
        if not opened:
            # zipfile is imported with this reader.
            from normcheck.formats.torch_zip import read_torch_zip
            from normcheck.formats.zip_members import open_archive

            budget = Budget(limits)
            value = read_torch_zip(part, open_archive(part, budget), budget)
            if not isinstance(value, TensorRef):
                raise UnreadableError(f"{part.name}: a chunk that is no tensor")
            opened.append(value)
        return opened[0]

    return tensor


def _lengths(name: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, tuple) or not all(
        type(n) is int and n >= 0 and n.bit_length() < 64 for n in value
    ):
        raise UnreadableError(f"{name:.80}: a shape that is none", "the folder is damaged")
    return value


def _writers(places: Mapping[tuple[str, object], _Place]) -> str:
    """What the files' names tell of the ranks that the running statistics come from.

    Buffers that are the same on every rank are stored once, by whichever rank has least to write.
    Whether they were the same nobody looks at: BatchNorm keeps each rank's own.
    """
    ranks: dict[str, set[int]] = {}
    for (name, _), place in places.items():
        path, _, leaf = name.rpartition(".")
        written = _WRITER.match(place.file)
        if leaf in _STATISTICS and written is not None:
            ranks.setdefault(path, set()).add(int(written[1]))
    every = set().union(*ranks.values())
    if len(every) < 2:
        return ""
    mixed = sum(len(of_layer) > 1 for of_layer in ranks.values())
    note = (
        f"running statistics were stored by {len(every)} ranks, each value by one of them only, so "
        "that the folder does not show whether the ranks agreed (without SyncBatchNorm they differ)"
    )
    if mixed:
        note += f"; mean and variance of {plural(mixed, 'layer')} come from different ranks"
    return note


def _in_order(stored: Mapping[Any, object], paths: Mapping[Any, object]) -> Iterator[object]:
    """The keys as the state dict had them.

    What is stored is listed by the rank that wrote it, each value once; where the keys go back to
    when the state is loaded is listed as the first rank walked through its state.
    """
    yield from (name for name in paths if name in stored)
    yield from (name for name in stored if name not in paths)


def _put(tree: dict[Any, object], path: object, name: str, value: object) -> None:
    """Into its place in the nesting that was flattened; under its own name where none is told."""
    keys = path if isinstance(path, tuple) and path else (name,)
    if not all(isinstance(key, str | int) for key in keys) or len(keys) > _LONGEST_NAME:
        keys = (name,)
    here = tree
    for key in keys[:-1]:
        below = here.setdefault(key, {})
        if not isinstance(below, dict):
            # A name that is both a leaf and a folder of others.
            tree[name] = value
            return
        here = below
    here[keys[-1]] = value
