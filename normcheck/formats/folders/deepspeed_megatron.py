"""Folders in which every rank of a training run wrote its own files: DeepSpeed and Megatron.

What tensor-parallel ranks hold of a norm is the same on each of them, and what pipeline stages
hold are different layers. So one model is put together: of every stage the first rank, with what
only others have added. Under ZeRO-3 each parameter is cut into equal parts over the
data-parallel ranks, and lies, in float32, in the optimizer's files; it is put together here as
DeepSpeed's own ``zero_to_fp32.py`` does.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod

from normcheck.errors import NoModelError, UnreadableError
from normcheck.formats.folders.folder_kinds import FolderKind
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.pickles.inert import entries_of
from normcheck.pickles.torch_objects import as_tensor
from normcheck.saved.checkpoint import Checkpoint, Form, SavedModel
from normcheck.saved.clocks import merged
from normcheck.saved.tensor_pieces import Piece, in_pieces, part_of, piece_of
from normcheck.saved.tensors import TensorRef, contiguous_strides
from normcheck.sources.limits import Budget, Limits
from normcheck.sources.opening import open_sources
from normcheck.sources.place import Place, RemotePath
from normcheck.sources.source import Source
from normcheck.wording import plural

_DEEPSPEED = re.compile(r"(?:zero_pp_rank_(?P<data>\d+)_)?mp_rank_(?P<tensor>\d+)_model_states\.pt")
_LAYER = re.compile(r"layer_(?P<layer>\d+)-model_(?P<tensor>\d+)-model_states\.pt")
_OPTIMIZER = re.compile(
    r"(?:\w+_)?zero_pp_rank_(?P<data>\d+)_mp_rank_(?P<tensor>\d+)_optim_states\.pt"
)
_MEGATRON = re.compile(r"mp_rank_(?P<tensor>\d{2,})(?:_(?P<stage>\d{3}))?(?:_\d{3})*")
_MEGATRON_FILES = ("model_optim_rng.pt", "model_rng.pt", "model_states.pt")

Read = Callable[[Place, Limits], Checkpoint]


@lazy_dataclass()
class _Rank:
    """One file of one rank."""

    place: Place
    part: str
    """What its tensors' names begin with in the whole: stages number their layers alike."""
    tensor: int
    data: int = 0


def read_ranks(folder: Place, kind: FolderKind, limits: Limits, read: Read) -> Checkpoint:
    """One checkpoint of all the files.

    Args:
        folder: With the files.
        kind: Whose they are.
        limits: For each file.
        read: Reads one of them.

    Raises:
        UnreadableError: A file is missing or damaged.
    """
    folders, files = listed(folder)
    if kind is FolderKind.MEGATRON:
        ranks = list(_megatron(folder, folders))
    else:
        ranks = list(_deepspeed(folder, files))
    # Data-parallel ranks hold the same model, and under ZeRO-3 the same shapes of it.
    ranks = [rank for rank in ranks if rank.data == 0]
    read_files: list[Checkpoint] = []
    try:
        read_files.extend(read(rank.place, limits) for rank in ranks)
        merged = _merged(ranks, read_files)
        opened: list[Source] = [source for file in read_files for source in file.sources]
        if kind is FolderKind.DEEPSPEED and _is_partitioned(merged):
            parts = [f for f in files if _OPTIMIZER.fullmatch(f)]
            merged, more = _from_partitions(folder, files, parts, merged, limits)
            opened += more
    except BaseException:
        for checkpoint in read_files:
            checkpoint.close()
        raise
    if not merged:
        for checkpoint in read_files:
            checkpoint.close()
        raise NoModelError(f"{folder}: the files of its ranks hold no model")
    across = len({rank.tensor for rank in ranks})
    checkpoint = one_checkpoint(folder, kind, read_files, merged, opened)
    if across == 1:
        return checkpoint
    first = f"of {across} tensor-parallel ranks the first is judged: norms are on each"
    return replace(checkpoint, notes=(*checkpoint.notes, first))


def one_checkpoint(
    folder: Place,
    kind: FolderKind,
    files: Sequence[Checkpoint],
    models: Sequence[SavedModel],
    sources: Sequence[Source],
) -> Checkpoint:
    """The checkpoint that files of several ranks are together.

    Args:
        folder: In which they lie.
        kind: Whose they are.
        files: Each by itself.
        models: Of them together.
        sources: All that is open.
    """
    return replace(
        files[0],
        name=str(folder),
        format=f"{kind}, {plural(len(files), 'file')}",
        size=sum(file.size for file in files),
        models=tuple(models),
        optimizer_steps=max((f.optimizer_steps or 0 for f in files), default=0) or None,
        optimizers=sum(file.optimizers for file in files),
        clocks=merged(clock for file in files for clock in file.clocks),
        notes=tuple(dict.fromkeys(note for file in files for note in file.notes)),
        sources=tuple(sources),
        names=tuple(dict.fromkeys(name for file in files for name in file.names)),
    )


def listed(folder: Place) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in a folder."""
    if isinstance(folder, RemotePath):
        from normcheck.sources.remote import file_systems as remote

        return remote.listed(folder)
    entries = sorted(folder.iterdir())
    return (
        [entry.name for entry in entries if entry.is_dir()],
        [entry.name for entry in entries if not entry.is_dir()],
    )


def _deepspeed(folder: Place, files: Sequence[str]) -> Iterator[_Rank]:
    for name in files:
        layer, whole = _LAYER.fullmatch(name), _DEEPSPEED.fullmatch(name)
        if layer:
            yield _Rank(folder / name, f"layer_{layer['layer']}.", int(layer["tensor"]))
        elif whole:
            yield _Rank(folder / name, "", int(whole["tensor"]), int(whole["data"] or 0))


def _megatron(folder: Place, folders: Sequence[str]) -> Iterator[_Rank]:
    for name in folders:
        found = _MEGATRON.fullmatch(name)
        if found is None:
            continue
        _, inside = listed(folder / name)
        file = next((file for file in _MEGATRON_FILES if file in inside), None)
        if file is None:
            raise UnreadableError(
                f"{folder / name}: the files of this rank are missing",
                f"a rank has one of {', '.join(_MEGATRON_FILES)}; copy the whole folder",
            )
        stage = int(found["stage"] or 0)
        yield _Rank(folder / name / file, f"stage_{stage}." if stage else "", int(found["tensor"]))


def _merged(ranks: Sequence[_Rank], files: Sequence[Checkpoint]) -> list[SavedModel]:
    """The models of all files, by the place at which they sit in each."""
    together: dict[str, dict[str, TensorRef]] = {}
    modules: dict[str, SavedModel] = {}
    # The lowest tensor-parallel rank first: what it has is not replaced.
    for rank, file in sorted(zip(ranks, files, strict=True), key=lambda pair: pair[0].tensor):
        for model in file.models:
            modules.setdefault(model.where, model)
            tensors = together.setdefault(model.where, {})
            for name, tensor in model.tensors.items():
                tensors.setdefault(rank.part + name, tensor)
    if len(files) == 1:
        return list(files[0].models)
    return [
        SavedModel(where, Form.STATE_DICT, tensors, ordered=modules[where].ordered)
        for where, tensors in together.items()
    ]


def _is_partitioned(models: Sequence[SavedModel]) -> bool:
    """Whether parameters are empty here, as ZeRO-3 leaves them."""
    return any(
        tensor.ndim == 1 and tensor.shape == (0,)
        for model in models
        for tensor in model.tensors.values()
    )


def _from_partitions(
    folder: Place,
    files: Sequence[str],
    optimizers: Sequence[str],
    models: Sequence[SavedModel],
    limits: Limits,
) -> tuple[list[SavedModel], list[Source]]:
    """The models with their parameters put together from the optimizer's files."""
    found = [(int(m["data"]), name) for name in optimizers if (m := _OPTIMIZER.fullmatch(name))
             and int(m["tensor"]) == 0]  # fmt: skip
    first = min((name for name in files if _DEEPSPEED.fullmatch(name)), default="")
    if not found or sorted(rank for rank, _ in found) != list(range(len(found))):
        raise UnreadableError(
            f"{folder}: ZeRO-3 parameters lie in *_optim_states.pt, some of which are missing",
            "copy the whole folder, or convert it with DeepSpeed's zero_to_fp32.py",
        )
    places = [folder / first, *(folder / name for _, name in sorted(found))]
    sources = open_sources(places)
    try:
        shapes = _shapes(entries_of(_root(sources[0], limits)).get("param_shapes"))
        flats = [_flat_groups(_root(source, limits), source.name) for source in sources[1:]]
        whole = dict(_joined(shapes, flats, limits))
    except BaseException:
        for source in sources:
            source.close()
        raise
    filled = [
        replace(
            model,
            tensors={
                name: whole.get(name, tensor) if tensor.shape == (0,) else tensor
                for name, tensor in model.tensors.items()
            },
        )
        for model in models
    ]
    return filled, sources


def _root(source: Source, limits: Limits) -> object:
    from normcheck.formats.torch_zip import read_torch_zip
    from normcheck.formats.zip_members import open_archive

    budget = Budget(limits)
    return read_torch_zip(source, open_archive(source, budget), budget)


def _shapes(value: object) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters in the order of the partitions; groups follow each other."""
    groups = value if isinstance(value, list) else [value]
    return {
        name: shape
        for group in groups
        for name, shape in entries_of(group).items()
        if isinstance(name, str)
        and isinstance(shape, tuple)
        and all(type(n) is int and 0 <= n < 1 << 62 for n in shape)
    }


def _flat_groups(root: object, name: str) -> list[TensorRef]:
    state = entries_of(entries_of(root).get("optimizer_state_dict"))
    groups = state.get("fp32_flat_groups")
    tensors = [t for t in map(as_tensor, groups if isinstance(groups, list) else []) if t]
    if not tensors:
        raise UnreadableError(
            f"{name}: no fp32_flat_groups, where ZeRO-3 keeps its parameters",
            "convert the folder with DeepSpeed's zero_to_fp32.py",
        )
    return tensors


def _joined(
    shapes: Mapping[str, tuple[int, ...]], flats: Sequence[Sequence[TensorRef]], limits: Limits
) -> Iterator[tuple[str, TensorRef]]:
    """Each parameter: one equal part of every rank, the last one padded."""
    world = len(flats)
    offset = 0
    for name, shape in shapes.items():
        numel = prod(shape)
        each = -(-numel // world)
        dtype = flats[0][0].dtype
        pieces: list[Piece] = []
        for rank, groups in enumerate(flats):
            begin = rank * each
            left = min(each, numel - begin)
            for tensor, start, length in _within(groups, offset, max(0, left)):
                part = part_of(tensor, start, length)
                pieces.append(piece_of(part, (begin,)))
                begin += length
        offset += each
        flat = in_pieces(name, (numel,), dtype, pieces, limits)
        yield name, _reshaped(flat, shape)


def _within(
    groups: Sequence[TensorRef], offset: int, length: int
) -> Iterator[tuple[TensorRef, int, int]]:
    """Where ``length`` elements from ``offset`` lie in flat tensors that follow each other."""
    for tensor in groups:
        if length <= 0:
            return
        if offset < tensor.numel:
            taken = min(length, tensor.numel - offset)
            yield tensor, offset, taken
            offset, length = 0, length - taken
        else:
            offset -= tensor.numel
    if length > 0:
        raise UnreadableError(
            "the partitions are shorter than the parameters",
            "the files are of different saves; copy the whole folder again",
        )


def _reshaped(flat: TensorRef, shape: tuple[int, ...]) -> TensorRef:
    return replace(flat, shape=shape, strides=contiguous_strides(shape))
