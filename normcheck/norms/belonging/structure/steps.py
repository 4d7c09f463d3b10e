"""The modules of a model that have tensors, in the order in which they most probably run."""

from collections.abc import Iterator
from itertools import pairwise

from normcheck.norms.belonging.structure.module_step import ModuleStep
from normcheck.norms.belonging.structure.run_order import as_run
from normcheck.norms.layer import NormLayer
from normcheck.norms.recognise.neighbours import place_before
from normcheck.saved.checkpoint import SavedModel
from normcheck.saved.tensor_columns import shapes_of
from normcheck.saved.tensors import TensorRef


def steps_of(model: SavedModel, layers: tuple[NormLayer, ...]) -> list[ModuleStep]:
    """The modules with tensors, in the order of the file."""
    tensors = model.tensors
    names: dict[str, tuple[str, ...]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in zip(tensors, shapes_of(tensors), strict=True):
        path, _, leaf = name.rpartition(".")
        names[path] = (*names.get(path, ()), name)
        if leaf == "weight":
            shapes[path] = shape
    norms = {
        path: layer for layer in layers if layer.reached for path in (layer.path, *layer.aliases)
    }
    return as_run(
        [
            ModuleStep(path, named, shapes.get(path), norms.get(path), tensors)
            for path, named in names.items()
        ]
    )


def places_served(model: SavedModel, layers: tuple[NormLayer, ...]) -> dict[str, tuple[str, ...]]:
    """Norms that stand right behind different weights, under two names or more, and these weights.

    One module that a block holds twice, as ``norm`` built once and put behind each convolution:
    its running statistics are a mixture of what stands before it. A block that is registered twice
    as a whole, weights and norm, is one place.

    Returns:
        The names of the weights by the norm's path, in the order of the file.
    """
    if not any(layer.aliases for layer in layers):
        return {}
    before: dict[str, dict[tuple[int, int], str]] = {}
    found = _by_order(model, layers) if model.modules is None else _by_number(model, layers)
    for norm, path, weights in found:
        if norm.features in weights.shape[:2]:
            storage = id(weights.storage if weights.storage is not None else weights)
            before.setdefault(norm.path, {}).setdefault((storage, weights.offset), path)
    return {path: tuple(found.values()) for path, found in before.items() if len(found) > 1}


_Place = tuple[NormLayer, str, TensorRef]


def _by_order(model: SavedModel, layers: tuple[NormLayer, ...]) -> Iterator[_Place]:
    """The weights before each name of a norm: a state dict has each name's tensors in its place."""
    for here, behind in pairwise(steps_of(model, layers)):
        if behind.norm is not None and behind.norm.aliases and here.is_weights:
            yield behind.norm, here.path, here.weight


def _by_number(model: SavedModel, layers: tuple[NormLayer, ...]) -> Iterator[_Place]:
    """The same in a module tree, which has a module once: by the numbers of a Sequential."""
    named = {path: m.path for m in model.modules or () for path in (m.path, *m.aliases)}
    for layer in layers:
        for path in (layer.path, *layer.aliases) if layer.aliases else ():
            before = place_before(path)
            if before is None:
                continue
            own = named.get(before, before)
            weights = model.tensors.get(f"{own}.weight")
            if weights is not None and weights.ndim >= 2:
                yield layer, own, weights
