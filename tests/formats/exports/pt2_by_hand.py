"""Archives of exported programs in the layouts of older torches, and ones put together by hand."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn


def exported(model: nn.Module, *inputs: Any, **options: Any) -> Any:
    """The program of a model."""
    return torch.export.export(model, inputs, **options)


def members(path: Path) -> dict[str, bytes]:
    """The members of an archive by name, without its root folder."""
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def write(path: Path, parts: Mapping[str, bytes | str], root: str = "m/") -> Path:
    """An archive of these members, stored."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(f"{root}{name}", data)
    return path


def layout_of_2_8(program: Any, path: Path) -> Path:
    """As torch 2.7 and 2.8 wrote it: weights and constants by ``torch.save``, one file each."""
    parts = _serialised(program)
    return write(
        path,
        {
            "archive_format": "pt2", "archive_version": "0", "byteorder": "little",
            "models/model.json": parts["program"],
            "data/weights/model.pt": parts["state"],
            "data/constants/model.pt": parts["constants"],
            "data/sample_inputs/model.pt": parts["inputs"],
        },
    )  # fmt: skip


def layout_of_2_6(program: Any, path: Path) -> Path:
    """As torch up to 2.6 wrote it: everything at the root of the archive."""
    parts = _serialised(program)
    return write(
        path,
        {
            "version": "5.3",
            "serialized_exported_program.json": parts["program"],
            "serialized_state_dict.pt": parts["state"],
            "serialized_constants.pt": parts["constants"],
            "serialized_example_inputs.pt": parts["inputs"],
        },
        root="",
    )


def _serialised(program: Any) -> dict[str, bytes]:
    from torch._export.serde.serialize import serialize

    made = serialize(program)
    return {
        "program": made.exported_program, "state": made.state_dict,
        "constants": made.constants, "inputs": made.example_inputs,
    }  # fmt: skip


def changed(path: Path, to: Path, change: Callable[[Any], Any], name: str = "model") -> Path:
    """A copy of an archive whose graph was changed."""
    parts = members(path)
    member = f"models/{name}.json"
    described = json.loads(parts[member])
    described = change(described) or described
    return write(to, {**parts, member: json.dumps(described)})


def saved(thing: Any) -> bytes:
    """What ``torch.save`` writes."""
    raw = io.BytesIO()
    torch.save(thing, raw)
    return raw.getvalue()
