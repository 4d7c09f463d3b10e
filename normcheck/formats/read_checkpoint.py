"""From a path to a Checkpoint: which format it is, and the reader for it."""

import os
from dataclasses import replace

from normcheck.formats.folders.folder_kinds import FolderKind, kind_of_folder
from normcheck.formats.reading_errors import guarded
from normcheck.formats.registry import checkpoint_of, read_source
from normcheck.pickles.locate_models import locate_models
from normcheck.saved.checkpoint import Checkpoint
from normcheck.sources.limits import DEFAULT_LIMITS, Budget, Limits
from normcheck.sources.opening import open_source
from normcheck.sources.place import Place, RemotePath
from normcheck.sources.source import MemorySource, Source
from normcheck.wording import plural

_TRAINED = ("model", "pytorch_model")
"""How the files begin beside which training loops keep their state."""


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
        return guarded(str(path), [], lambda: _read_folder(path, folder, limits))
    source = open_source(path)
    return _read_opened(path, source, limits)


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
    return guarded(name, [source], lambda: read_source(source, limits))


def _read_opened(path: Place, source: Source, limits: Limits) -> Checkpoint:
    checkpoint = _read_file(path, source, limits)
    if path.name.startswith(_TRAINED):
        from normcheck.formats.folders.training_siblings import (
            is_trained_model,
            with_training_state,
        )

        if is_trained_model(path):
            return with_training_state(path, checkpoint, limits, read_source)
    if not path.name.startswith("adapter_"):
        return checkpoint
    from normcheck.formats.folders.adapters import is_adapter, with_base

    return with_base(path, checkpoint, limits) if is_adapter(path.name) else checkpoint


def _read_file(path: Place, source: Source, limits: Limits) -> Checkpoint:
    if path.name.endswith(".index.json"):
        from normcheck.formats.folders.sharded import read_sharded

        return guarded(
            source.name, [source], lambda: read_sharded(path, source, limits, _read_opened)
        )
    return guarded(source.name, [source], lambda: read_source(source, limits))


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
    if kind is FolderKind.HF_SHARDS:
        from normcheck.formats.folders.hf_shards import read_hf_shards

        return read_hf_shards(path, limits, read_checkpoint)
    if kind is not FolderKind.DISTRIBUTED:
        from normcheck.formats.folders.deepspeed_megatron import read_ranks

        return read_ranks(path, kind, limits, read_checkpoint)
    from normcheck.formats.folders.dcp import read_distributed

    budget = Budget(limits)
    found = read_distributed(path, budget)
    return guarded(
        str(path),
        list(found.sources),
        lambda: replace(
            checkpoint_of(found.sources[0], f"{kind}, {plural(found.files, 'file')}",
                        locate_models(found.root, budget), found.note),
            name=str(path),
            size=found.size,
            sources=found.sources,
            names=tuple(budget.names),
        ),
    )  # fmt: skip
