"""Folders in which ``HuggingFaceStorageWriter`` of torch left the shards of several ranks.

``shard-<rank + 1>-model-<k>-of-<n>.safetensors``, without an index. The metadata of the header say
under ``DCP_SHARDING_INFO`` where in the whole tensor each piece begins; a tensor that only one rank
wrote begins at 0. ``consolidate_safetensors_files`` of torch joins them as it is done here.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from normcheck.errors import NoModelError, UnreadableError
from normcheck.formats.bounded_json import read_json
from normcheck.formats.folders.deepspeed_megatron import Read, listed, one_checkpoint
from normcheck.formats.folders.folder_kinds import HF_SHARD, FolderKind
from normcheck.formats.safetensors_file import SHARDING_INFO, header_length
from normcheck.saved.averages_apart import averages_apart, put_together
from normcheck.saved.checkpoint import Checkpoint, Form, SavedModel
from normcheck.saved.key_order import natural_order
from normcheck.saved.tensor_pieces import Piece, in_pieces, piece_of
from normcheck.saved.tensors import TensorRef
from normcheck.sources.limits import Budget, Limits
from normcheck.sources.place import Place
from normcheck.sources.source import MemorySource, Source

_START = 512
_LENGTH_BYTES = 8


def read_hf_shards(folder: Place, limits: Limits, read: Read) -> Checkpoint:
    """One checkpoint of the shards of all ranks.

    Args:
        folder: With the files.
        limits: For each file.
        read: Reads one of them.

    Raises:
        UnreadableError: A shard is missing, or pieces do not make up their tensor.
    """
    _, names = listed(folder)
    found = [match for name in names if (match := HF_SHARD.fullmatch(name))]
    _check_complete(folder, found)
    files: list[Checkpoint] = []
    try:
        files.extend(read(folder / match[0], limits) for match in found)
        pieces: dict[str, list[tuple[tuple[int, ...], TensorRef]]] = defaultdict(list)
        for file in files:
            offsets = sharding_info(file.sources[0], limits)
            for name, tensor in put_together(file.models).items():
                pieces[name].append((offsets.get(name, (0,) * tensor.ndim), tensor))
        tensors = {
            name: _whole(name, pieces[name], limits) for name in sorted(pieces, key=natural_order)
        }
        if not tensors:
            raise NoModelError(f"{folder}: the shards hold no tensors")
    except BaseException:
        for file in files:
            file.close()
        raise
    model = SavedModel("", Form.STATE_DICT, tensors, ordered=False)
    sources = [source for file in files for source in file.sources]
    models = averages_apart(model, Budget(limits))
    whole = one_checkpoint(folder, FolderKind.HF_SHARDS, files, models, sources)
    return replace(whole, notes=())


def sharding_info(source: Source, limits: Limits) -> dict[str, tuple[int, ...]]:
    """Where the pieces of a shard begin in their tensors, by name; empty for any other file.

    Raises:
        UnreadableError: It is there and says nothing valid.
    """
    length = header_length(source.read_at(0, min(_START, source.size)))
    if length is None:
        return {}
    header = read_json(source, _LENGTH_BYTES, length, Budget(limits), "the safetensors header")
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    text = metadata.get(SHARDING_INFO) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        return {}
    inner = MemorySource(text.encode(), source.name)
    described: Any = read_json(inner, 0, inner.size, Budget(limits), SHARDING_INFO)
    if not isinstance(described, dict):
        raise UnreadableError(f"{source.name}: {SHARDING_INFO} is not an object")
    return {name: _offsets(source, name, entry) for name, entry in described.items()}


def _offsets(source: Source, name: str, entry: object) -> tuple[int, ...]:
    offsets = entry.get("saved_offsets") if isinstance(entry, Mapping) else None
    if not isinstance(offsets, list) or not all(
        type(n) is int and 0 <= n < 1 << 62 for n in offsets
    ):
        raise UnreadableError(f"{source.name}: {SHARDING_INFO} of {name:.80} is not valid")
    return tuple(offsets)


def _check_complete(folder: Place, found: Sequence[re.Match[str]]) -> None:
    ranks = sorted({int(match["rank"]) for match in found})
    missing = next((n for n in range(1, ranks[-1]) if n not in ranks), None)
    if missing is not None:
        raise UnreadableError(
            f"{folder}: shard {missing} is missing, of {ranks[-1]} or more",
            "copy the whole folder; each rank has a part of the model",
        )


def _whole(
    name: str, pieces: Sequence[tuple[tuple[int, ...], TensorRef]], limits: Limits
) -> TensorRef:
    offsets, first = pieces[0]
    if len(pieces) == 1 and not any(offsets):
        return first
    if any(len(at) != tensor.ndim or tensor.ndim != first.ndim for at, tensor in pieces):
        raise UnreadableError(f"{name:.80}: its pieces have different numbers of dimensions")
    shape = tuple(max(at[d] + tensor.shape[d] for at, tensor in pieces) for d in range(first.ndim))
    boxes: list[Piece] = [piece_of(tensor, at) for at, tensor in pieces]
    return in_pieces(name, shape, first.dtype, boxes, limits)
