"""A model spread over several files, as the index beside them lists them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from normcheck.errors import NoModelError, UnreadableError
from normcheck.formats import foreign_files as foreign
from normcheck.formats.bounded_json import read_json
from normcheck.saved.averages_apart import averages_apart, put_together
from normcheck.saved.checkpoint import Checkpoint, Form, SavedModel
from normcheck.saved.key_order import natural_order
from normcheck.saved.tensors import TensorRef
from normcheck.sources.limits import Budget, Limits
from normcheck.sources.opening import open_sources
from normcheck.sources.place import Place
from normcheck.sources.source import Source

_LONGEST_FILE_NAME = 255

ReadSource = Callable[[Place, Source, Limits], Checkpoint]
"""Reads a file that is open already."""


def read_sharded(path: Place, index: Source, limits: Limits, read: ReadSource) -> Checkpoint:
    """One checkpoint of the shards that a ``*.index.json`` lists.

    Args:
        path: Where the index lies; the shards lie beside it.
        index: The same, opened.
        limits: For each file.
        read: Reads a shard.

    Raises:
        UnreadableError: The index leads elsewhere, or to what is not there.
        NoModelError: It lists nothing.
    """
    described = read_json(index, 0, index.size, Budget(limits), "the index")
    placed = described.get("weight_map") if isinstance(described, dict) else None
    if not isinstance(placed, dict) or not all(isinstance(v, str) for v in placed.values()):
        raise foreign.explain(str(path), index.size, b"{")
    files = sorted(set(placed.values()))
    for file in files:
        # An index must not lead out of its folder, and not to itself.
        if not _is_shard_name(file):
            raise UnreadableError(
                f"{path}: the shard {file!r:.80} is not a plain file name",
                "the index was changed or made to harm; fetch it again",
            )
    shards: dict[str, Checkpoint] = {}
    try:
        shards = _shards(path.parent, files, limits, read)
        held = {file: put_together(shard.models) for file, shard in shards.items()}
        tensors: dict[str, TensorRef] = {}
        for name in sorted(placed, key=natural_order):
            tensor = held[placed[name]].get(name)
            if tensor is None and len(models := shards[placed[name]].models) > 1:
                raise UnreadableError(
                    f"{path}: {placed[name]} is a shard with {len(models)} models"
                )
            if tensor is None:
                raise UnreadableError(
                    f"{path}: {name:.80} is not in {placed[name]}, where the index places it",
                    "the index and the shards are of different versions; fetch both again",
                )
            tensors[name] = tensor
    except BaseException:
        for shard in shards.values():
            shard.close()
        raise
    unlisted = sum(map(len, held.values())) - len(tensors)
    first = next(iter(shards.values()), None)
    if first is None:
        raise NoModelError(f"{path}: the index lists no tensors")
    note = f"{unlisted} tensors of the shards are not in the index" if unlisted > 0 else ""
    whole = SavedModel("", Form.STATE_DICT, tensors, ordered=False)
    return replace(
        first,
        name=str(path),
        format=f"{first.format}, {len(shards)} shards",
        size=sum(shard.size for shard in shards.values()),
        models=tuple(averages_apart(whole, Budget(limits))),
        notes=(
            *((note,) if note else ()),
            *dict.fromkeys(n for s in shards.values() for n in s.notes),
        ),
        sources=(index, *(source for shard in shards.values() for source in shard.sources)),
    )


def _is_shard_name(name: str) -> bool:
    return (
        Path(name).name == name
        and name not in ("", "..")
        and len(name) <= _LONGEST_FILE_NAME
        and name.isprintable()
        and not name.endswith(".index.json")
    )


def _shards(
    folder: Place, files: list[str], limits: Limits, read: ReadSource
) -> dict[str, Checkpoint]:
    """The shards by name, remote ones opened side by side."""
    places = [folder / file for file in files]
    for place in places:
        if isinstance(place, Path) and not place.exists():
            raise UnreadableError(
                f"{place}: a shard that the index lists is missing", "fetch the whole model folder"
            )
    sources = open_sources(places)
    shards: dict[str, Checkpoint] = {}
    try:
        for file, place, source in zip(files, places, sources, strict=True):
            shards[file] = read(place, source, limits)
    except BaseException:
        for source in sources:
            source.close()
        raise
    return shards
