"""A new file of the same kind, where a repaired copy cannot have the bytes of the old one.

A buffer that the file lacks has no bytes that could be replaced, and a count in floating point
has too few. Only files that can be taken apart and put together without losing anything: state
dicts that torch loads without running code, and safetensors.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from normcheck.errors import NormcheckError
from normcheck.repair.editing.patched_copy import single_source
from normcheck.repair.editing.tensor_edits import encoded
from normcheck.repair.repair_result import ModelRepair, TensorEdit
from normcheck.saved.averages_apart import in_file
from normcheck.saved.checkpoint import Checkpoint, Form
from normcheck.saved.dtypes import BY_NAME, DType
from normcheck.sources.source import FileSource
from normcheck.writing.streams import Out

_LENGTH_BYTES = 8
_ALIGNED = 8
_CODES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64"}
_PIECE = 1 << 22
_INT64 = BY_NAME["int64"]

Writer = Callable[[Out], None]
"""Writes all bytes of a file, in pieces: it may be larger than the memory."""


def needs_new_file(models: Sequence[ModelRepair]) -> str:
    """Why no copy with replaced bytes can hold the changes; empty where one can."""
    changes = [change for model in models for change in model.changes]
    missing = sum(change.ref is None for change in changes)
    if missing:
        return f"it lacked {missing} buffers, for which it has no bytes"
    if any(_grows(change) for change in changes):
        return "batch counts in floating point have other bytes than whole numbers"
    return ""


def _grows(change: TensorEdit) -> bool:
    return change.whole_numbers and change.ref is not None and change.ref.dtype.floating


def new_dtype(change: TensorEdit, beside: Mapping[str, DType]) -> DType:
    """The type that a tensor is written in: its own, or that of the file's other statistics."""
    if change.ref is not None and not _grows(change):
        return change.ref.dtype
    if change.whole_numbers:
        return _INT64
    return beside.get(change.name.rpartition(".")[2], BY_NAME["float32"])


def rewritten(checkpoint: Checkpoint, models: Sequence[ModelRepair]) -> Writer:
    """What writes a new file with the changes.

    Args:
        checkpoint: The file, open.
        models: What changes in which of its models.

    Raises:
        NormcheckError: A file of this kind cannot be written anew without losing something.
    """
    source = single_source(checkpoint)
    forms = {saved.where: saved for saved in checkpoint.models}
    if any(forms[model.where].form is not Form.STATE_DICT for model in models):
        raise _cannot("it holds a whole module")
    if checkpoint.format == "safetensors":
        return _safetensors(source, [(model, _beside(checkpoint, model)) for model in models])
    if checkpoint.format == "pickle":
        raise _cannot("it is a plain pickle")
    return _torch(checkpoint, models)


def _cannot(why: str) -> NormcheckError:
    return NormcheckError(
        f"it lacks bytes for what has to be added, and cannot be rewritten: {why}",
        "load the model yourself, call normcheck.recalibrate(model, data) and save it again",
    )


def _beside(checkpoint: Checkpoint, model: ModelRepair) -> dict[str, DType]:
    """Types of the statistics that the file has, by the last part of their names."""
    saved = next(m for m in checkpoint.models if m.where == model.where)
    return {name.rpartition(".")[2]: ref.dtype for name, ref in saved.tensors.items()}


def _safetensors(
    source: FileSource, models: Sequence[tuple[ModelRepair, Mapping[str, DType]]]
) -> Writer:
    length = int.from_bytes(source.read_at(0, _LENGTH_BYTES), "little")
    header: dict[str, Any] = json.loads(source.read_at(_LENGTH_BYTES, length))
    begin = _LENGTH_BYTES + length
    new = {}
    for model, beside in models:
        for change in model.changes:
            name, dtype = in_file(model.where, change.name), new_dtype(change, beside)
            new[name] = encoded(name, change.values, dtype)
            old = header.get(name)
            shape = old["shape"] if old else list(np.shape(change.values))
            header[name] = {
                "dtype": _CODES[dtype.name],
                "shape": shape,
                "data_offsets": old["data_offsets"] if old else None,
            }
    names = [name for name in header if name != "__metadata__"]
    # In the order in which they lie in the file; what is new comes last.
    old_spans = {name: header[name]["data_offsets"] for name in names}
    names.sort(key=lambda name: (old_spans[name] is None, old_spans[name] or [0]))
    position = 0
    for name in names:
        span = old_spans[name]
        size = len(new[name]) if name in new else span[1] - span[0]
        header[name] = {**header[name], "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNED)

    def pieces() -> Iterator[bytes]:
        yield len(text).to_bytes(_LENGTH_BYTES, "little") + text
        for name in names:
            if name in new:
                yield new[name]
                continue
            first, last = old_spans[name]
            for start in range(first, last, _PIECE):
                yield source.read_at(begin + start, min(_PIECE, last - start))

    def write(out: Out) -> None:
        for piece in pieces():
            out.write(piece)

    return write


def _torch(checkpoint: Checkpoint, models: Sequence[ModelRepair]) -> Writer:
    import torch

    from normcheck.live.loading.load_model import at_place

    modern = checkpoint.format.startswith("torch zip")
    try:
        # Of a zip, tensors stay on the disk until they are written. A legacy file has to be read.
        value = torch.load(checkpoint.name, map_location="cpu", weights_only=True, mmap=modern)
    except Exception as error:
        raise _cannot("torch cannot load it without running code of the file's") from error
    for model in models:
        entries = at_place(value, model.where)
        beside = _beside(checkpoint, model)
        if not isinstance(entries, dict):
            raise _cannot("its tensors are not in a dictionary")
        for change in model.changes:
            if change.ref is not None and change.name not in entries:
                raise _cannot("its tensors are in dictionaries within dictionaries")
            old = entries.get(change.name)
            dtype = getattr(torch, new_dtype(change, beside).name)
            # Through our own encoder, for its check of the range.
            encoded(change.name, change.values, new_dtype(change, beside))
            shape = old.shape if old is not None else np.shape(change.values)
            tensor = torch.from_numpy(np.array(change.values)).to(dtype).reshape(shape)
            if old is None:
                _insert(entries, change.name, tensor)
            else:
                entries[change.name] = tensor

    def write(out: Out) -> None:
        # All that torch asks of a file is that bytes can be written to it.
        torch.save(value, out, _use_new_zipfile_serialization=modern)  # type: ignore[arg-type]

    return write


def _insert(entries: dict[str, Any], name: str, tensor: Any) -> None:
    """Put a tensor behind the others of its module, as ``state_dict`` orders them."""
    prefix = name.rpartition(".")[0]
    items = list(entries.items())
    last = max(
        (i for i, (key, _) in enumerate(items) if str(key).rpartition(".")[0] == prefix),
        default=len(items) - 1,
    )
    items.insert(last + 1, (name, tensor))
    entries.clear()
    entries.update(items)
