"""A live model from a factory of the user's and the weights of a file."""

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from normcheck.errors import NormcheckError, UsageError
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.loading.nothing_fits import nothing_fits
from normcheck.live.torch_tensors import TensorLoader
from normcheck.saved.checkpoint import SavedModel
from normcheck.saved.tensors import TensorRef
from normcheck.sources.place import is_remote
from normcheck.wording import plural

_SHOWN = 6
"""Names of tensors that an error lists."""
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def imported(spec: str, flag: str) -> Any:
    """What ``pkg.mod:name`` or ``path/to/file.py:name`` names.

    The current directory comes first, as it does for ``python -m``.

    Args:
        spec: Module and attribute, with a colon between; the attribute may have dots.
        flag: The flag that gave it, for messages.

    Raises:
        UsageError: It cannot be imported, or has no such attribute.
    """
    module_name, colon, attribute = spec.rpartition(":")
    if not colon or not module_name or not attribute or is_remote(spec):
        raise UsageError(
            f"{flag} {spec}: not of the form pkg.mod:name",
            f"for example {flag} mypackage.net:build",
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        value: Any = _module(module_name)
    except NormcheckError:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise UsageError(
            f"{flag} {spec}: importing {module_name} failed: {type(error).__name__}: {error}",
            "the current directory and installed packages are searched",
        ) from error
    for part in attribute.split("."):
        if not hasattr(value, part):
            names = _names_in(value)
            raise UsageError(
                f"{flag} {spec}: {module_name} has no {attribute}",
                f"it has {', '.join(names[:_SHOWN])}" if names else "",
            )
        value = getattr(value, part)
    return value


def _names_in(value: Any) -> list[str]:
    """Public names in a module or object; of a module its own ones, if it defines any."""
    held = vars(value) if hasattr(value, "__dict__") else dict.fromkeys(dir(value))
    public = [name for name in held if not name.startswith("_")]
    home = getattr(value, "__name__", None)
    own = [name for name in public if getattr(held[name], "__module__", None) == home]
    return own or public


def _module(name: str) -> Any:
    if not name.endswith(".py"):
        return importlib.import_module(name)
    path = Path(name)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise UsageError(f"{name}: no such file", "name a Python file, or a module with dots")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    sys.path.insert(0, os.fspath(path.parent.resolve()))
    spec.loader.exec_module(module)
    return module


def build(spec: str | Callable[..., Any], arguments: Mapping[str, Any] | list[Any]) -> nn.Module:
    """Call the factory and return what it made.

    Args:
        spec: ``pkg.mod:factory``: a function, a class, or a module object itself; or, in Python,
            such a thing.
        arguments: Keyword arguments, or a list of positional ones.

    Raises:
        UsageError: It failed, or made no ``nn.Module``.
    """
    factory = imported(spec, "--model") if isinstance(spec, str) else spec
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        raise UsageError(f"--model {spec}: neither a function nor a class", "name a factory")
    try:
        model = factory(**arguments) if isinstance(arguments, Mapping) else factory(*arguments)
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"--model {spec} failed: {type(error).__name__}: {error}",
            f"give its arguments with --model-args '{{...}}': {spec}{_signature(factory)}",
        ) from error
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"--model {spec} made a {type(model).__name__}, not an nn.Module",
            "name a function or class that returns the model",
        )
    return model


def _signature(factory: Any) -> str:
    try:
        return str(inspect.signature(factory))
    except (TypeError, ValueError):
        return "(...)"


@lazy_dataclass()
class Fitting:
    """How the names of a file fit those of a model."""

    prefix: str
    """Part of the file's names that comes before the model's own."""
    own_prefix: str
    """Part of the model's names that the file lacks (a wrapper's ``module.``)."""
    missing: tuple[str, ...]
    """Tensors of the model that the file does not have."""
    unexpected: tuple[str, ...]
    """Tensors of the file, under the prefix, that the model does not have."""
    misshapen: tuple[str, ...]
    """Tensors of both whose shapes differ, each with the two."""

    def problems(self, parameters: frozenset[str]) -> list[str]:
        """What forbids a run, in words: a parameter left at random, or of another shape."""
        lost = [name for name in self.missing if name in parameters]
        found = []
        if lost:
            found.append(f"{plural(len(lost), 'parameter')} missing: {_listed(lost)}")
        if self.misshapen:
            shapes = plural(len(self.misshapen), "tensor")
            found.append(f"{shapes} of another shape: {_listed(self.misshapen)}")
        return found


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def fitting(model: nn.Module, tensors: Mapping[str, TensorRef], prefix: str | None) -> Fitting:
    """The best way to lay the names of a file over those of a model.

    Args:
        model: Freshly made.
        tensors: Of the file.
        prefix: As the user chose it; None to look for one.

    Raises:
        UsageError: Several prefixes fit equally well, and the user has to choose.
    """
    wanted = model.state_dict(keep_vars=True)  # the same object under each name of a tie
    own = {"", *(f"{name}." for name, _ in model.named_children())}
    own = {part for part in own if not part or all(name.startswith(part) for name in wanted)}
    found = [
        _fitting(wanted, tensors, there, part)
        for there in (_prefixes(wanted, tensors) if prefix is None else [prefix])
        for part in sorted(own)
    ]
    parameters = frozenset(name for name, _ in model.named_parameters())
    complete = [fit for fit in found if not fit.problems(parameters)]
    # Names as the model has them come before a copy of it under others.
    complete = [fit for fit in complete if not fit.prefix] or complete
    if len({fit.prefix for fit in complete}) > 1 and not any(not f.prefix for f in complete):
        names = ", ".join(sorted({fit.prefix for fit in complete}))
        raise UsageError(
            f"the file holds the model several times, under {names}",
            "choose one with --prefix",
        )
    return min(
        complete or found,
        key=lambda fit: (len(fit.missing) + len(fit.misshapen), len(fit.unexpected)),
    )


def within_place(prefix: str | None, saved: SavedModel) -> str | None:
    """A prefix as the user chose it, less the place of the model where it repeats that.

    A model and its average in one flat state dict are models at places of their own: in the file
    their names begin with it, and in the model they do not.

    Args:
        prefix: None to look for one.
        saved: The model of the file.
    """
    place = f"{saved.where}."
    if not prefix or place == "." or not prefix.startswith(place):
        return prefix
    if any(name.startswith(prefix) for name in saved.tensors):
        return prefix
    return prefix.removeprefix(place)


def _prefixes(wanted: Mapping[str, torch.Tensor], tensors: Mapping[str, TensorRef]) -> list[str]:
    """What may stand before the model's names in the file: wherever some of them occur."""
    found = {""}
    for name in list(wanted)[:_SHOWN]:
        found.update(key.removesuffix(name) for key in tensors if key.endswith(f".{name}"))
    return sorted(found)


def _fitting(
    wanted: Mapping[str, torch.Tensor],
    tensors: Mapping[str, TensorRef],
    prefix: str,
    own_prefix: str,
) -> Fitting:
    there = {
        own_prefix + name.removeprefix(prefix): ref
        for name, ref in tensors.items()
        if name.startswith(prefix)
    }
    # A tensor under two names is there where the file has either of them.
    found = {id(wanted[name]) for name in there if name in wanted}
    return Fitting(
        prefix=prefix,
        own_prefix=own_prefix,
        missing=tuple(n for n in wanted if n not in there and id(wanted[n]) not in found),
        unexpected=tuple(name for name in there if name not in wanted),
        misshapen=tuple(
            f"{name} ({_shape(there[name].shape)} in the file, {_shape(tensor.shape)} in the model)"
            for name, tensor in wanted.items()
            if name in there
            and not is_lazy(tensor)
            and there[name].shape != tuple(tensor.shape)
            # Old files hold counts as a tensor of one element, which torch takes for a scalar.
            and not (there[name].shape == (1,) and tensor.ndim == 0)
        ),
    )


def _shape(shape: Iterable[int]) -> str:
    return "x".join(str(n) for n in shape) or "scalar"


def load(
    model: nn.Module,
    saved: SavedModel,
    prefix: str | None,
    places: tuple[str, ...] = (),
    copies: Mapping[str, TensorRef] = MappingProxyType({}),
) -> list[str]:
    """Put the weights of a file into a model, and say what did not fit.

    Args:
        model: Changed in place.
        saved: The model of the file.
        prefix: As the user chose it; None to look for one.
        places: Of all models of the file, for the hint on how to choose another.
        copies: Tensors of the averages that lie within it in the file, by their names there: a
            module that holds a network and its average takes both.

    Returns:
        Notes for the report; empty where every name found its place.

    Raises:
        NormcheckError: A parameter would stay random, or has another shape, or the model and
            the file have no name in common.
    """
    fit = fitting(model, saved.tensors, within_place(prefix, saved))
    names = frozenset(name for name, _ in model.named_parameters())
    if copies and fit.problems(names):
        whole = replace(saved, tensors={**saved.tensors, **copies})
        of_all = fitting(model, whole.tensors, within_place(prefix, saved))
        if not of_all.problems(names):
            saved, fit = whole, of_all
    if len(fit.missing) == len(model.state_dict(keep_vars=True)):
        # Also of a model without parameters: judging it would say nothing of the file.
        raise nothing_fits(model, saved, prefix, places)
    problems = fit.problems(names)
    if problems:
        raise NormcheckError(
            f"its tensors do not fit the model: {'; '.join(problems)}",
            "check --model and --model-args; a variant under other names is chosen with --prefix",
        )
    weights = TensorLoader()
    state = {
        fit.own_prefix + name.removeprefix(fit.prefix): weights.tensor(ref)
        for name, ref in saved.tensors.items()
        if name.startswith(fit.prefix)
    }
    model.load_state_dict(
        {name: state[name] for name in model.state_dict() if name in state}, strict=False
    )
    return list(_notes(fit, saved))


def _notes(fit: Fitting, saved: SavedModel) -> Iterable[str]:
    if fit.prefix:
        yield f"read from the tensors under '{fit.prefix}'"
    others = sum(not name.startswith(fit.prefix) for name in saved.tensors)
    if others:
        lie = "lies" if others == 1 else "lie"
        yield f"{plural(others, 'tensor')} of the file {lie} outside of it"
    if fit.missing:
        kept = "initial values" if fit.missing[0].endswith(_STATISTICS) else "the factory's values"
        yield (
            f"{plural(len(fit.missing), 'buffer')} not in the file, left at {kept}: "
            f"{_listed(fit.missing)}"
        )
    if fit.unexpected:
        yield (
            f"{plural(len(fit.unexpected), 'tensor')} of the file without a place in the model: "
            f"{_listed(fit.unexpected)}"
        )
