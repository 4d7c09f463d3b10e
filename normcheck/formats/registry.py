"""Every format: how its files begin, and the reader that is imported when one is met."""

import re
from functools import partial
from typing import TYPE_CHECKING

from normcheck.errors import NoModelError, UnreadableError
from normcheck.formats import foreign_files as foreign
from normcheck.formats.format import Format
from normcheck.formats.safetensors_file import header_length, read_safetensors
from normcheck.lazy_dataclass import replace
from normcheck.pickles.locate_models import Found, locate_models
from normcheck.saved.averages_apart import averages_apart
from normcheck.saved.checkpoint import Checkpoint, Form, SavedModel
from normcheck.sources.limits import Budget, Limits
from normcheck.sources.source import Source
from normcheck.wording import plural

if TYPE_CHECKING:
    from normcheck.formats.zip_directory import Archive

SNIFFED = 512
"""Bytes that are enough to tell every format."""
_PICKLE = re.compile(
    rb"\x80[\x00-\x05]|\([dl]p?\d*\n|[\]}]q[\x00\x01]|c\w[\w.]*\n\w[\w.]*\n", re.DOTALL
)
"""How pickles begin: with their protocol, and before protocol 2 with a dictionary or the
class of an object."""


def read_source(source: Source, limits: Limits) -> Checkpoint:
    """What a file holds, read by the first format whose sign it begins with.

    Raises:
        UnreadableError: Damaged, or no format that is read here.
        RefusedError: Past the limits.
        NoModelError: Readable, but no model in it.
    """
    start = source.read_at(0, min(SNIFFED, source.size))
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
    length = header_length(source.read_at(0, min(SNIFFED, source.size)))
    assert length is not None  # noqa: S101  (its sign)
    tensors, note = read_safetensors(source, length, limits)
    whole = SavedModel("", Form.STATE_DICT, tensors, ordered=False)
    found = Found(averages_apart(whole, Budget(limits)) if tensors else [])
    return checkpoint_of(source, "safetensors", found, note)


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
        return replace(checkpoint_of(source, "torch zip", Found([script])), refused_by_torch=why)
    found = locate_models(
        read_torch_zip(source, archive, budget), budget, partial(_unpickled, budget)
    )
    note = "" if has_checksum(pickled) else "saved without checksums: damage would not show"
    checkpoint = checkpoint_of(source, "torch zip", found, note)
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
    code = f"{root}code/"
    return f"{root}constants.pkl" in names or any(n.startswith(code) for n in names)


def _read_exported(source: Source, archive: "Archive", budget: Budget) -> Checkpoint:
    from normcheck.formats.pt2.exported_program import is_exported, read_exported

    names = archive.namelist()
    if not is_exported(names):
        from normcheck.formats.boxes.torch_package import is_package, read_package

        if is_package(names):
            found = read_package(source, archive, budget)
            package = checkpoint_of(source, "torch.package archive", found)
            return replace(package, names=tuple(budget.names))
        known = foreign.explain_zip(source.name, names)
        if known is not None:
            raise known
        return _read_box(source, budget.limits)
    models = read_exported(source, archive, budget)
    return checkpoint_of(source, "pt2 archive", Found(list(models)))


def _is_box(start: bytes) -> bool:
    from normcheck.formats.boxes.read_box import is_box

    return is_box(start)


def _is_zstd(start: bytes) -> bool:
    return start.startswith(b"\x28\xb5\x2f\xfd")


def _read_box(source: Source, limits: Limits) -> Checkpoint:
    from normcheck.formats.boxes.read_box import read_box

    return read_box(source, limits, read_source, is_known)


def is_known(start: bytes) -> bool:
    """Whether a file that begins so is of a format that is read here."""
    return any(form.sign(start) for form in FORMATS)


def _read_pickles(source: Source, limits: Limits) -> Checkpoint:
    from normcheck.formats.legacy_pickles import read_pickle_stream

    budget = Budget(limits)
    value, is_torch, end = read_pickle_stream(source, budget)
    found = locate_models(value, budget, partial(_unpickled, budget))
    left = source.size - end
    note = f"{left:,} bytes behind its end were not read" if left else ""
    form = "legacy torch file" if is_torch else "pickle"
    checkpoint = checkpoint_of(source, form, found, note)
    if is_torch:  # a plain pickle is nothing that torch.load takes
        from normcheck.pickles.safe_names import needs_trust

        trust = needs_trust(budget.names)
        checkpoint = replace(checkpoint, notes=(*checkpoint.notes, *((trust,) if trust else ())))
    return replace(checkpoint, names=tuple(budget.names))


def _unpickled(budget: Budget, data: bytes) -> object:
    """What a pickle holds that lies in another as bytes."""
    from normcheck.formats.legacy_pickles import read_pickle_stream
    from normcheck.sources.source import MemorySource

    value, *_ = read_pickle_stream(MemorySource(data, "a pickle within"), budget)
    return value


def checkpoint_of(source: Source, form: str, found: Found, note: str = "") -> Checkpoint:
    """The checkpoint that a reader ends in.

    Args:
        source: What was read.
        form: What a report calls its format.
        found: What is in it.
        note: What a reader of the report should know of the file.

    Raises:
        NoModelError: None was found.
    """
    if not found.models:
        if found.optimizers:
            what = "an optimizer's state and no model"
        elif found.tensors_without_names:
            tensors = plural(found.tensors_without_names, "tensor")
            what = f"{tensors} without parameter names, and no model"
        else:
            what = "no model"
        error = NoModelError(
            f"{source.name}: the {form} holds {what}",
            "scan the file that has the state_dict or the module itself",
        )
        error.found = found
        raise error
    return Checkpoint(
        name=source.name,
        format=form,
        size=source.size,
        models=tuple(found.models),
        optimizer_steps=found.optimizer_steps,
        optimizers=found.optimizers,
        optimizer_states=tuple(found.optimizer_states),
        clocks=found.clocks,
        notes=(note,) if note else (),
        sources=(source,),
    )


def _is_zip(start: bytes) -> bool:
    return start.startswith(b"PK\x03\x04")


_PICKLES = (".pkl", ".pickle")
_PACKED = tuple(
    suffix + packing
    for suffix in (".pt", ".pth", ".ckpt", ".safetensors", *_PICKLES, ".joblib")
    for packing in (".gz", ".z", ".bz2", ".xz", ".lzma", ".zst")
)
"""As joblib names what it packs, and as whoever packs a file names it."""

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
    Format("packed by zstd", (), sign=_is_zstd, read=_read_box, extra="zstandard"),
    Format("an archive of checkpoints", (".mar", ".nemo", "model.tar.gz"), _is_box, _read_box),
    Format("a packed checkpoint", _PACKED, _is_box, _read_box),
    Format("a pickle", (*_PICKLES, ".joblib"), sign=_PICKLE.match, read=_read_pickles),
    Format("an ONNX model", (".onnx",), sign=_is_onnx, read=_read_onnx, export=True, extra="onnx"),
)
"""Every format, in the order in which files are held against their signs."""
