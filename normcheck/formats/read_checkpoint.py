"""From a path to a Checkpoint: which format it is, and the reader for it."""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from normcheck.errors import NoModelError, NormcheckError, RefusedError, UnreadableError
from normcheck.formats import foreign_files as foreign
from normcheck.formats.bounded_json import read_json
from normcheck.formats.folders.folder_kinds import FolderKind, kind_of_folder
from normcheck.formats.format import Format
from normcheck.formats.safetensors_file import header_length, read_safetensors
from normcheck.pickles.locate_models import Found, locate_models
from normcheck.saved.checkpoint import Checkpoint, Form, SavedModel
from normcheck.saved.key_order import natural_order
from normcheck.sources.limits import DEFAULT_LIMITS, Budget, Limits
from normcheck.sources.opening import open_source, open_sources
from normcheck.sources.place import Place, RemotePath
from normcheck.sources.source import MemorySource, Source
from normcheck.wording import plural

if TYPE_CHECKING:
    from zipfile import ZipFile

    from normcheck.saved.tensors import TensorRef

_SNIFFED = 512
"""Bytes that are enough to tell every format."""
_LONGEST_FILE_NAME = 255
_PICKLE = re.compile(
    rb"\x80[\x00-\x05]|\([dl]p?\d*\n|[\]}]q[\x00\x01]|c\w[\w.]*\n\w[\w.]*\n", re.DOTALL
)
"""How pickles begin: with their protocol, and before protocol 2 with a dictionary or the
class of an object."""


def read_checkpoint(path: Place, limits: Limits = DEFAULT_LIMITS) -> Checkpoint:
    """Read what ``path`` holds: a checkpoint file, the index of a sharded one, or such a folder.

    It lies here, or at an address that fsspec opens. Nothing of it is executed, and tensors are
    read only when asked for. Close the checkpoint when done.

    Raises:
        UnreadableError: Missing, damaged, or no format that is read here.
        RefusedError: Past the limits.
        NoModelError: Readable, but no model in it.
    """
    folder = _folder_kind(path)
    if folder is not None:
        return _guarded(str(path), [], lambda: _read_folder(path, folder, limits))
    source = open_source(path)
    return _read_source(path, source, limits)


def read_memory(data: bytes, name: str, limits: Limits = DEFAULT_LIMITS) -> Checkpoint:
    """Read what the bytes of a checkpoint file hold, as ``read_checkpoint`` does a file.

    Args:
        data: The whole file.
        name: How the report calls it.
        limits: As for a file.

    Raises:
        UnreadableError: As for a file.
    """
    source = MemorySource(data, name)
    return _guarded(name, [source], lambda: _read_file(source, limits))


def _read_source(path: Place, source: Source, limits: Limits) -> Checkpoint:
    if path.name.endswith(".index.json"):
        return _guarded(source.name, [source], lambda: _read_sharded(path, source, limits))
    return _guarded(source.name, [source], lambda: _read_file(source, limits))


def _guarded(name: str, opened: list[Source], read: Callable[[], Checkpoint]) -> Checkpoint:
    """What ``read`` returns; where it fails, what was opened is closed and the error completed."""
    try:
        return read()
    except (MemoryError, SystemError):
        # A MemoryError may get lost on its way up, where no memory is left to record that
        # way; CPython then raises SystemError. The error that the user sees is raised
        # behind this block, which holds on to everything that was built.
        pass
    except RecursionError:
        for source in opened:
            source.close()
        deep = RefusedError("it is nested deeper than it can be followed", limit="nesting")
        complete(deep, name)
        raise deep from None
    except NormcheckError as error:
        for source in opened:
            source.close()
        complete(error, name)
        raise
    except BaseException:
        for source in opened:
            source.close()
        raise
    for source in opened:
        source.close()
    raise RefusedError(
        f"{name}: not enough memory to read it",
        "the file is enormous, damaged or made to harm; try a machine with more memory",
    )


def _folder_kind(path: Place) -> FolderKind | None:
    """What kind of checkpoint a folder is; None for a file, and for a folder of files."""
    if isinstance(path, RemotePath):
        if not path.uri.endswith("/"):
            return None
        from normcheck.sources.remote import file_systems as remote

        return kind_of_folder(*remote.listed(path))
    if not os.path.isdir(path):  # noqa: PTH112  (of impossible names, too)
        return None
    names = sorted(path.iterdir())
    return kind_of_folder(
        [entry.name for entry in names if entry.is_dir()],
        [entry.name for entry in names if not entry.is_dir()],
    )


def _read_folder(path: Place, kind: FolderKind, limits: Limits) -> Checkpoint:
    # Imported here: files, which are what most scans meet, do without.
    if kind is FolderKind.FSDP:
        from normcheck.formats.folders.fsdp import read_fsdp

        return read_fsdp(path, limits, read_checkpoint)
    if kind is not FolderKind.DISTRIBUTED:
        from normcheck.formats.folders.deepspeed_megatron import read_ranks

        return read_ranks(path, kind, limits, read_checkpoint)
    from normcheck.formats.folders.dcp import read_distributed

    budget = Budget(limits)
    found = read_distributed(path, budget)
    return _guarded(
        str(path),
        list(found.sources),
        lambda: replace(
            _checkpoint(found.sources[0], f"{kind}, {plural(found.files, 'file')}",
                        locate_models(found.root, budget), found.note),
            name=str(path),
            size=found.size,
            sources=found.sources,
            names=tuple(budget.names),
        ),
    )  # fmt: skip


def complete(error: NormcheckError, name: str) -> None:
    """Let the error say which file it is about, and what to do.

    Args:
        error: Of reading, now or later, when a tensor's bytes were asked for.
        name: Of the file.
    """
    if name not in error.message:
        error.message = f"{name}: {error.message}"
    # Names quoted from the file may hold anything, sequences that drive a terminal too.
    error.message = "".join(c if c.isprintable() else repr(c)[1:-1] for c in error.message)
    error.args = (error.message,)
    if not error.hint:
        error.hint = "the file is damaged or of an unknown kind; fetch it again or save it again"
        if isinstance(error, RefusedError):
            error.hint = "no real model asks for that: the file is damaged or made to harm"
            if error.limit:
                option = error.limit.replace("_", "-")
                error.hint += f"; to read it all the same, raise --limit {option}=N"


def _read_file(source: Source, limits: Limits) -> Checkpoint:
    start = source.read_at(0, min(_SNIFFED, source.size))
    for form in FORMATS:
        if form.sign(start):
            return _read_as(form, source, limits)
    raise foreign.explain(source.name, source.size, start)


def _read_as(form: Format, source: Source, limits: Limits) -> Checkpoint:
    try:
        return form.read(source, limits)
    except ImportError as error:
        if not form.extra:
            raise
        raise UnreadableError(
            f"{source.name}: {form.name}, which takes the package {form.extra} to read",
            f"pip install 'normcheck[{form.extra}]'",
        ) from error


def _read_safetensors(source: Source, limits: Limits) -> Checkpoint:
    length = header_length(source.read_at(0, min(_SNIFFED, source.size)))
    assert length is not None  # noqa: S101  (its sign)
    tensors = read_safetensors(source, length, limits)
    found = Found([SavedModel("", Form.STATE_DICT, tensors, ordered=False)] if tensors else [])
    return _checkpoint(source, "safetensors", found)


def _is_onnx(start: bytes) -> bool:
    if not start.startswith(b"\x08"):
        return False
    # Files that begin so are few, and the reader of those that are ONNX is not small.
    from normcheck.formats.onnx.onnx_file import looks_like_onnx

    return looks_like_onnx(start)


def _read_onnx(source: Source, limits: Limits) -> Checkpoint:
    from normcheck.formats.onnx.onnx_file import read_onnx

    return read_onnx(source, limits)


def _read_zip(source: Source, limits: Limits) -> Checkpoint:
    # zipfile is imported with this reader: the other formats do without it.
    from normcheck.formats.torch_archive import why_reader_refuses, why_torch_load_refuses
    from normcheck.formats.torch_zip import pickle_member, read_torch_zip
    from normcheck.formats.zip_members import has_checksum, open_archive
    from normcheck.pickles.safe_names import needs_trust

    budget = Budget(limits)
    archive = open_archive(source, budget)
    names = archive.namelist()
    pickled = pickle_member(archive)
    if pickled is None:
        return _read_exported(source, archive, budget)
    root = pickled.filename.removesuffix("data.pkl")
    if _is_torchscript(names, root):
        from normcheck.formats.torchscript.script_archive import read_torchscript

        script = read_torchscript(source, archive, root, budget)
        why = _cannot_load("torch.jit.load", why_reader_refuses(source, archive, budget))
        return replace(_checkpoint(source, "torch zip", Found([script])), refused_by_torch=why)
    found = locate_models(read_torch_zip(source, archive, budget), budget)
    note = "" if has_checksum(pickled) else "saved without checksums: damage would not show"
    checkpoint = _checkpoint(source, "torch zip", found, note)
    why = _cannot_load("torch.load", why_torch_load_refuses(source, archive, budget))
    trust = needs_trust(budget.names)
    return replace(
        checkpoint,
        names=tuple(budget.names),
        notes=(*checkpoint.notes, *((trust,) if trust else ())),
        refused_by_torch=why,
    )


def _cannot_load(loader: str, why: str) -> str:
    from normcheck.formats.torch_archive import TORCH

    return f"{loader} of torch {TORCH} cannot load it: {why}" if why else ""


def _is_torchscript(names: list[str], root: str) -> bool:
    # Here and not with its reader, which other archives need not import.
    return f"{root}constants.pkl" in names or any(n.startswith(f"{root}code/") for n in names)


def _read_exported(source: Source, archive: "ZipFile", budget: Budget) -> Checkpoint:
    from normcheck.formats.pt2.exported_program import is_exported, read_exported

    names = archive.namelist()
    if not is_exported(names):
        raise foreign.explain_zip(source.name, names)
    models = read_exported(source, archive, budget)
    return _checkpoint(source, "pt2 archive", Found(list(models)))


def _read_pickles(source: Source, limits: Limits) -> Checkpoint:
    from normcheck.formats.legacy_pickles import read_pickle_stream

    budget = Budget(limits)
    value, is_torch, end = read_pickle_stream(source, budget)
    found = locate_models(value, budget)
    left = source.size - end
    note = f"{left:,} bytes behind its end were not read" if left else ""
    form = "legacy torch file" if is_torch else "pickle"
    checkpoint = _checkpoint(source, form, found, note)
    if is_torch:  # a plain pickle is nothing that torch.load takes
        from normcheck.pickles.safe_names import needs_trust

        trust = needs_trust(budget.names)
        checkpoint = replace(checkpoint, notes=(*checkpoint.notes, *((trust,) if trust else ())))
    return replace(checkpoint, names=tuple(budget.names))


def _checkpoint(source: Source, form: str, found: Found, note: str = "") -> Checkpoint:
    if not found.models:
        if found.optimizers:
            what = "an optimizer's state and no model"
        elif found.tensors_without_names:
            what = f"{found.tensors_without_names} tensors without parameter names, and no model"
        else:
            what = "no model"
        raise NoModelError(
            f"{source.name}: the {form} holds {what}",
            "scan the file that has the state_dict or the module itself",
        )
    return Checkpoint(
        name=source.name,
        format=form,
        size=source.size,
        models=tuple(found.models),
        optimizer_steps=found.optimizer_steps,
        optimizers=found.optimizers,
        optimizer_states=tuple(found.optimizer_states),
        trainer_steps=found.trainer_steps,
        notes=(note,) if note else (),
        sources=(source,),
    )


def _read_sharded(path: Place, index: Source, limits: Limits) -> Checkpoint:
    """A model spread over several files, as its ``*.index.json`` lists them."""
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
        shards = _shards(path.parent, files, limits)
        tensors: dict[str, TensorRef] = {}
        for name in sorted(placed, key=natural_order):
            tensor = shards[placed[name]].models[0].tensors.get(name)
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
    unlisted = sum(len(s.models[0].tensors) for s in shards.values()) - len(tensors)
    first = next(iter(shards.values()), None)
    if first is None:
        raise NoModelError(f"{path}: the index lists no tensors")
    note = f"{unlisted} tensors of the shards are not in the index" if unlisted > 0 else ""
    return replace(
        first,
        name=str(path),
        format=f"{first.format}, {len(shards)} shards",
        size=sum(shard.size for shard in shards.values()),
        models=(SavedModel("", Form.STATE_DICT, tensors, ordered=False),),
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


def _shards(folder: Place, files: list[str], limits: Limits) -> dict[str, Checkpoint]:
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
            shards[file] = shard = _read_source(place, source, limits)
            if len(shard.models) != 1:
                raise UnreadableError(f"{place}: a shard with {len(shard.models)} models")
    except BaseException:
        for source in sources:
            source.close()
        raise
    return shards


def _is_zip(start: bytes) -> bool:
    return start.startswith(b"PK\x03\x04")


FORMATS = (
    Format(
        "a file of torch.save",
        (".pt", ".pth", ".th", ".ckpt", ".bin", ".pth.tar", ".model"),
        sign=_is_zip,
        read=_read_zip,
    ),
    # What is in an archive its members tell, so that these three have one reader.
    Format("a TorchScript archive", (".ptl", ".jit"), sign=_is_zip, read=_read_zip, export=True),
    Format("a program of torch.export", (".pt2",), sign=_is_zip, read=_read_zip, export=True),
    # Before pickles: a header of 640 bytes begins with 80 02 like a pickle of protocol 2.
    Format(
        "a safetensors file",
        (".safetensors",),
        sign=lambda start: header_length(start) is not None,
        read=_read_safetensors,
    ),
    Format("a pickle", (".pkl", ".pickle"), sign=_PICKLE.match, read=_read_pickles),
    Format("an ONNX model", (".onnx",), sign=_is_onnx, read=_read_onnx, export=True, extra="onnx"),
)
"""Every format, in the order in which files are held against their signs."""
