"""A model and a file that share no name: what to say of it."""

from collections.abc import Iterable, Mapping

from torch import nn

from normcheck.errors import NormcheckError
from normcheck.live.run_request import named
from normcheck.saved.checkpoint import SavedModel
from normcheck.saved.tensors import TensorRef

_SHOWN = 4
"""Names of either side that the error lists."""


def nothing_fits(
    model: nn.Module, saved: SavedModel, prefix: str | None, places: tuple[str, ...]
) -> NormcheckError:
    """The error for a model and a file that share no name, with the names of both."""
    own = list(model.state_dict(keep_vars=True))
    has = f"it has {_listed(own)}" if own else "it has no tensors at all"
    error = (
        f"no tensor of the file fits the model of --model: {has}; the file has "
        f"{_listed(saved.tensors) or 'none'}"
    )
    ways = []
    if prefix is not None:
        ways.append("leave --prefix out, to have one looked for")
    elif own and (found := _likely_prefix(own, saved.tensors)):
        ways.append(f"--prefix {found} if the model is the part under that name")
    if len(places) > 1:
        listed = named(places[:_SHOWN])
        ways.append(f"--where chooses another model of the file: {listed}")
    ways.append("check that --model and --model-args build the model that was saved")
    return NormcheckError(error, "; ".join(ways))


def _likely_prefix(own: list[str], tensors: Mapping[str, TensorRef]) -> str:
    """What all names of the file begin with, and none of the model's; ``""`` where there is none.

    A file of a wrapper has it; the names behind it are then other ones, or it would have fitted.
    """
    first = next(iter(tensors), "").partition(".")[0]
    shared = f"{first}."
    if not first or not all(name.startswith(shared) for name in tensors):
        return ""
    return "" if any(name.startswith(shared) for name in own) else shared


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(name[:80] for name in names[:_SHOWN]) + more
