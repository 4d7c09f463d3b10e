"""Objects of Python that are no modules, as the values that readers of files end in."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from normcheck.errors import NoModelError, NormcheckError, RefusedError, UnreadableError
from normcheck.formats.read_checkpoint import read_memory
from normcheck.live.watching.live_records import tensor_ref
from normcheck.pickles.inert import OrderedRecord
from normcheck.pickles.locate_models import Found, locate_models
from normcheck.saved.checkpoint import Checkpoint
from normcheck.saved.tensors import Storage
from normcheck.sources.limits import Budget, Limits

Modules = list[tuple[str, nn.Module]]
"""Live modules that lie in a mapping, each with its place there."""


def checkpoint_of(value: Mapping[Any, Any], limits: Limits) -> tuple[Checkpoint | None, Modules]:
    """The models in a mapping, found as they are in a file that holds the same.

    Nothing is copied, and nothing of the mapping is changed.

    Args:
        value: A state dict, or dictionaries and lists around some.
        limits: For the depth and number of containers.

    Returns:
        The state dicts, and None where there are none; and the live modules.

    Raises:
        NoModelError: There is neither.
    """
    walk = _Walk(limits)
    name = type(value).__name__
    try:
        found = locate_models(walk.plain(value, "", 0), Budget(limits))
    except RecursionError as error:
        raise RefusedError(
            f"the {name} is nested deeper than it can be followed", "give the state dict in it"
        ) from error
    if not found.models and not walk.modules:
        raise _nothing(name, value, found)
    if not found.models:
        return None, walk.modules
    size = sum(t.numel * t.dtype.itemsize for m in found.models for t in m.tensors.values())
    checkpoint = Checkpoint(
        name,
        "in memory",
        size,
        tuple(found.models),
        optimizer_steps=found.optimizer_steps,
        optimizers=found.optimizers,
        optimizer_states=tuple(found.optimizer_states),
        clocks=found.clocks,
    )
    return checkpoint, walk.modules


def _nothing(name: str, value: Mapping[Any, Any], found: Found) -> NoModelError:
    hint = "a state dict maps names to tensors: give model.state_dict(), or the model itself"
    if not value:
        return NoModelError(f"an empty {name} cannot be scanned", hint)
    if found.optimizers:
        return NoModelError(f"the {name} holds an optimizer's state and no model", hint)
    if found.tensors_without_names:
        return NoModelError(
            f"the {name} holds tensors without parameter names, and no model",
            "names are those of a state dict: weight, bias, layer.weight, layer.running_mean",
        )
    return NoModelError(f"the {name} holds no tensors, and no model", hint)


class _Walk:
    """Containers with references in the place of tensors."""

    def __init__(self, limits: Limits) -> None:
        self.modules: Modules = []
        self._limits = limits
        self._made: dict[int, Any] = {}
        self._storages: dict[object, Storage] = {}
        self._held: list[Any] = []
        """What was gone through, so that no identity is used twice."""

    def plain(self, value: Any, where: str, depth: int) -> object:
        """A container with what is in it, a tensor's reference, or None for anything else."""
        if isinstance(value, Tensor):
            return tensor_ref(value, self._storages)
        if isinstance(value, np.ndarray):
            return self._array(value)
        if not isinstance(value, nn.Module | Mapping | list | tuple):
            return value if isinstance(value, bool | int | float | str) else None
        if id(value) in self._made:
            return self._made[id(value)]
        self._held.append(value)
        if depth > self._limits.nesting:
            raise RecursionError
        if isinstance(value, nn.Module):
            self._made[id(value)] = None
            self.modules.append((where.lstrip("."), value))
            return None
        made: Any
        if isinstance(value, Mapping):
            made = self._made[id(value)] = OrderedRecord()
            for key, item in value.items():
                if isinstance(key, str | int):
                    made[key] = self.plain(item, f"{where}.{key}", depth + 1)
            metadata = getattr(value, "_metadata", None)
            if isinstance(metadata, Mapping):
                made.attributes = {"_metadata": _plain_metadata(metadata)}
            return made
        made = self._made[id(value)] = []
        made.extend(self.plain(v, f"{where}[{i}]", depth + 1) for i, v in enumerate(value))
        return made

    def _array(self, value: Any) -> object:
        try:
            # A copy: the reference outlives this call, and arrays may be read-only.
            return tensor_ref(torch.from_numpy(value.copy()), self._storages)
        except TypeError:  # objects, text, dates
            return None


def _plain_metadata(metadata: Mapping[Any, Any]) -> dict[str, object]:
    """Module versions, as ``state_dict()`` attaches them."""
    return {
        path: {"version": entry.get("version")}
        for path, entry in metadata.items()
        if isinstance(path, str) and isinstance(entry, Mapping)
    }


def checkpoint_of_export(program: torch.export.ExportedProgram, limits: Limits) -> Checkpoint:
    """An exported program, read as the archive that it would be saved as.

    Raises:
        UnreadableError: torch cannot write it.
    """
    archive = io.BytesIO()
    try:
        torch.export.save(program, archive)
    except NormcheckError:
        raise
    except Exception as error:
        raise UnreadableError(
            f"the ExportedProgram cannot be written by torch.export.save: "
            f"{type(error).__name__}: {str(error)[:200]}",
            "scan the model that was exported; or save the program, and scan that file",
        ) from error
    return read_memory(archive.getvalue(), type(program).__name__, limits)
