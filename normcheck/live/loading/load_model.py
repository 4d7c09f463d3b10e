"""From a file to a live model, by the road that the user opened."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from normcheck.errors import NormcheckError, UsageError
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.loading import model_factory as factory
from normcheck.live.loading.load_exported import load_exported
from normcheck.live.loading.rebuild import rebuild
from normcheck.live.run_request import Loading
from normcheck.saved.checkpoint import Checkpoint, Form, SavedModel
from normcheck.saved.tensors import TensorRef

_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


@lazy_dataclass()
class Loaded:
    """A live model and what should be known of how it came about."""

    module: nn.Module
    notes: tuple[str, ...] = ()


def load(checkpoint: Checkpoint, saved: SavedModel, how: Loading) -> Loaded:
    """Make a model of a file live.

    Args:
        checkpoint: The file that was read.
        saved: The model in it.
        how: As the user's flags say.

    Raises:
        NormcheckError: It cannot be made, with what the user can do about it.
    """
    if how.model:
        module = factory.build(how.model, how.arguments)
        places = tuple(model.where for model in checkpoint.models)
        copies = copies_within(checkpoint, saved)
        return Loaded(module, tuple(factory.load(module, saved, how.prefix, places, copies)))
    if saved.form is Form.STATE_DICT:
        raise NormcheckError(
            "a state dict has no code to run",
            "give the model's factory: --model pkg.mod:factory",
        )
    if saved.form.exported:
        return Loaded(
            load_exported(checkpoint, saved, trust=how.trust), ("ran as it was exported",)
        )
    if how.trust:
        return Loaded(_trusted(Path(checkpoint.name), saved), ("ran with the file's own code",))
    return Loaded(rebuild(saved.root))


def copies_within(checkpoint: Checkpoint, saved: SavedModel) -> dict[str, TensorRef]:
    """Tensors of the other models that lie at places within a state dict, by their names in it.

    An average in the same flat dict as its model is a model of its own.
    """
    if saved.form is not Form.STATE_DICT:
        return {}
    above = f"{saved.where}." if saved.where else ""
    return {
        f"{other.where[len(above) :]}.{name}": tensor
        for other in checkpoint.models
        if other is not saved and other.where.startswith(above) and other.where != saved.where
        for name, tensor in other.tensors.items()
    }


def _trusted(path: Path, saved: SavedModel) -> nn.Module:
    """Unpickle the file, code and all, and take the model from its place."""
    here = str(Path.cwd())
    if here not in sys.path:
        # The classes of a training script are most often found from where it was started.
        sys.path.insert(0, here)
    try:
        value: Any = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise NormcheckError(
            f"unpickling it failed: {type(error).__name__}: {error}",
            "run normcheck where the file's classes can be imported",
        ) from error
    value = at_place(value, saved.where)
    if not isinstance(value, nn.Module):
        raise NormcheckError(f"no module at {saved.where or 'the top'} after unpickling")
    return value


def at_place(value: Any, where: str) -> Any:
    """What sits at a place of what was unpickled.

    Args:
        value: The file's object.
        where: As ``SavedModel`` has it: ``state_dict``, ``nets[0]``.

    Raises:
        UsageError: Nothing is there.
    """
    for index, name in _STEP.findall(where):
        value = _step(value, index, name)
    return value


def _step(value: Any, index: str, name: str) -> Any:
    if index:
        return value[int(index)]
    if isinstance(value, Mapping):
        for key in (name, int(name) if name.isdecimal() else name):
            if key in value:
                return value[key]
    if hasattr(value, name):
        return getattr(value, name)
    raise UsageError(f"nothing called {name} after unpickling")
