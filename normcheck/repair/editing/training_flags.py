"""Where in a file the training flags of a module tree lie.

``NEWTRUE`` and ``NEWFALSE`` are pickle instructions of one byte, so that a mode can be changed
in place. The pickle is gone through once more by the inert reader, with values for the two that
know where they came from.
"""

from collections.abc import Mapping
from typing import ClassVar

from normcheck.errors import NormcheckError
from normcheck.pickles.handler import Handler, Machine
from normcheck.pickles.inert import attributes_of, children_of
from normcheck.pickles.machine import InertUnpickler
from normcheck.pickles.module_records import is_module
from normcheck.pickles.opcodes import TABLE
from normcheck.pickles.torch_objects import Constructors, constructors
from normcheck.repair.editing.patched_copy import single_source
from normcheck.repair.editing.tensor_edits import NotInPlaceError
from normcheck.saved.checkpoint import Checkpoint, SavedModel
from normcheck.sources.limits import DEFAULT_LIMITS
from normcheck.sources.source import FileSource, MemorySource, Source, stream

EVAL = b"\x89"
"""``NEWFALSE``."""
_SEARCHED = ("collections", "_codecs", "copyreg", "copy_reg", "builtins", "__builtin__")
"""Modules whose names are understood on the search; tensors stay as they are described."""
_LEGACY_PICKLES = 3
"""Pickles before the object in torch's legacy format."""


class PlacedFlag(int):
    """A bool of the pickle that knows the byte it came from."""

    place: int = -1


def _flag(value: int) -> Handler:
    def handler(machine: Machine) -> None:
        flag = PlacedFlag(value)
        flag.place = machine.position - 1
        machine.push(flag)

    return handler


class _PlacingUnpickler(InertUnpickler):
    """Reads a pickle as its parent does, and keeps the places of flags."""

    table: ClassVar[Mapping[bytes, Handler]] = {**TABLE, b"\x88": _flag(1), b"\x89": _flag(0)}


def training_flags(checkpoint: Checkpoint, saved: SavedModel) -> tuple[list[int], int]:
    """Places of the flags of all modules in train mode.

    Args:
        checkpoint: The file, open.
        saved: A whole module in it.

    Returns:
        Offsets in the file of the flags that are True, and how many modules there are.

    Raises:
        NotInPlaceError: The flags cannot be found, or are written in another way.
    """
    source = single_source(checkpoint)
    begin, pickled = _pickle(checkpoint, source)
    root = _at(pickled, saved.where)
    found: dict[int, PlacedFlag] = {}
    modules = 0
    stack: list[object] = [root]
    seen: set[int] = set()
    gone_through: set[int] = set()
    while stack:
        value = stack.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if is_module(value):
            modules += 1
            flag = attributes_of(value).get("training")
            if not isinstance(flag, PlacedFlag):
                raise NotInPlaceError(
                    "the training flags are written in a form that cannot be changed in place",
                    "load the module, call .eval() and save it again",
                )
            found[flag.place] = flag
        stack.extend(child for _, child in children_of(value, gone_through))
    return sorted(begin + place for place, flag in found.items() if flag), modules


def _at(root: object, where: str) -> object:
    """The value at a place, found as the reader finds models: by walking."""
    stack = [("", root)]
    gone_through: set[int] = set()
    seen: set[int] = set()
    while stack:
        path, value = stack.pop()
        if path.lstrip(".") == where:
            return value
        if id(value) not in seen:
            seen.add(id(value))
            stack.extend((path + name, child) for name, child in children_of(value, gone_through))
    raise NormcheckError(f"no module at {where!r} to set to eval mode")


def _pickle(checkpoint: Checkpoint, source: FileSource) -> tuple[int, object]:
    """Where the pickle with the module begins in the file, and what it describes."""
    table = {
        name: build for name, build in constructors(DEFAULT_LIMITS).items() if name[0] in _SEARCHED
    }
    if checkpoint.format.startswith("torch zip"):
        from normcheck.formats.torch_zip import pickle_member, stored_region
        from normcheck.formats.zip_members import open_archive

        archive = open_archive(source)
        member = pickle_member(archive)
        region = stored_region(source, archive, member.filename) if member else None
        if region is None:
            raise NotInPlaceError(
                "its pickle is compressed, so its flags cannot be changed in place",
                "load the module, call .eval() and save it again",
            )
        memory = MemorySource(source.read_at(region.offset, region.nbytes), source.name)
        return region.offset, _load(memory, table, 0)
    legacy = checkpoint.format.startswith("legacy")
    return 0, _load(source, table, _LEGACY_PICKLES if legacy else 0)


def _load(source: Source, table: Constructors, skipped: int) -> object:
    data = stream(source)
    for _ in range(skipped):
        InertUnpickler(data, source.size, table).load()
    return _PlacingUnpickler(data, source.size, table).load()
