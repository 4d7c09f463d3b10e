"""Folders in which every rank of an FSDP run saved its own shards with ``torch.save``.

Parameters are ``DTensor``s there, of FSDP 1 ``ShardedTensor``s, cut along one dimension over the
ranks in their order; buffers, running statistics among them, are whole on every rank. The files
are called ``model_world_size_<n>_rank_<k>.pt``. Under hybrid sharding the first ranks hold a whole
model, and the others copies of it.
"""

import re
from collections.abc import Iterator, Sequence

from normcheck.errors import UnreadableError
from normcheck.formats.folders.deepspeed_megatron import Read, listed, one_checkpoint
from normcheck.formats.folders.folder_kinds import FSDP_MODEL, FolderKind
from normcheck.saved.checkpoint import Checkpoint, Form, SavedModel
from normcheck.saved.tensor_pieces import Piece, in_pieces, piece_of
from normcheck.saved.tensors import TensorRef, TensorShard
from normcheck.sources.limits import Limits
from normcheck.sources.place import Place


def read_fsdp(folder: Place, limits: Limits, read: Read) -> Checkpoint:
    """One checkpoint of the files of all ranks.

    Args:
        folder: With the files.
        limits: For each file.
        read: Reads one of them.

    Raises:
        UnreadableError: A rank is missing, or the files are of several runs.
    """
    _, names = listed(folder)
    found = [match for name in names if (match := FSDP_MODEL.fullmatch(name))]
    ordered = _complete(folder, found)
    files: list[Checkpoint] = []
    try:
        files.extend(read(folder / name, limits) for name in ordered)
        models = [
            _whole(model, [_same_place(model, file) for file in files], limits)
            for model in files[0].models
        ]
    except BaseException:
        for file in files:
            file.close()
        raise
    sources = [source for file in files for source in file.sources]
    return one_checkpoint(folder, FolderKind.FSDP, files, models, sources)


def _complete(folder: Place, found: Sequence[re.Match[str]]) -> list[str]:
    """The names of the files by rank."""
    worlds = sorted({int(match["world"]) for match in found})
    if len(worlds) > 1:
        raise UnreadableError(
            f"{folder}: files of runs over {' and '.join(map(str, worlds))} ranks",
            "keep the files of one save in the folder, or name a single file",
        )
    by_rank = {int(match["rank"]): match[0] for match in found}
    missing = [rank for rank in range(worlds[0]) if rank not in by_rank]
    if missing:
        raise UnreadableError(
            f"{folder}: the file of rank {missing[0]} of {worlds[0]} is missing",
            "copy the whole folder; each rank has a part of every parameter",
        )
    return [by_rank[rank] for rank in range(worlds[0])]


def _same_place(model: SavedModel, file: Checkpoint) -> SavedModel:
    for other in file.models:
        if other.where == model.where:
            return other
    raise UnreadableError(
        f"{file.name}: holds no model at {model.where or 'its root'!r}, as the first rank does",
        "the folder mixes files of several saves; copy it again",
    )


def _whole(first: SavedModel, ranks: Sequence[SavedModel], limits: Limits) -> SavedModel:
    tensors: dict[str, TensorRef] = {}
    for name, tensor in first.tensors.items():
        if isinstance(tensor, TensorShard):
            pieces = list(_pieces(name, tensor, ranks))
            tensors[name] = in_pieces(name, tensor.shape, tensor.dtype, pieces, limits)
        else:
            tensors[name] = tensor
    return SavedModel(first.where, Form.STATE_DICT, tensors, ordered=first.ordered)


def _pieces(name: str, first: TensorShard, ranks: Sequence[SavedModel]) -> Iterator[Piece]:
    """The shards one behind the other, until the tensor is whole: then copies follow."""
    begin, dim = 0, first.dim
    for model in ranks:
        shard = model.tensors.get(name)
        if not isinstance(shard, TensorShard) or (shard.shape, shard.dim) != (first.shape, dim):
            raise UnreadableError(
                f"{name:.80}: the ranks have parts of different tensors under this name",
                "the folder mixes files of several saves; copy it again",
            )
        local = shard.local
        if shard.start not in (None, begin):
            raise UnreadableError(
                f"{name:.80}: the parts of the ranks do not follow each other",
                "load the folder with as many ranks as wrote it, and save a full state dict",
            )
        offsets = (*(0,) * dim, begin, *(0,) * (len(first.shape) - dim - 1))
        yield piece_of(local, offsets)
        begin += local.shape[dim]
        if begin >= first.shape[dim]:
            return
