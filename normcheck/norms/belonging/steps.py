"""The modules of a model that have tensors, in the order in which they most probably run."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, pairwise

from normcheck.norms.layer import NormLayer
from normcheck.norms.recognise.neighbours import place_before
from normcheck.saved.checkpoint import SavedModel
from normcheck.saved.tensors import TensorRef

NUMBER = re.compile(r"\d+")
"""What names of blocks and modules count by."""


@dataclass(frozen=True, slots=True)
class ModuleStep:
    """One module that has tensors, in the order of the model."""

    path: str
    leaves: Mapping[str, TensorRef]
    norm: NormLayer | None

    @property
    def weight_name(self) -> str:
        """What its weights are called in the model."""
        return f"{self.path}.weight" if self.path else "weight"

    @property
    def is_weights(self) -> bool:
        """Whether it multiplies: a matrix or a kernel, and no norm."""
        weight = self.leaves.get("weight")
        return self.norm is None and weight is not None and weight.ndim >= 2

    @property
    def is_prelu(self) -> bool:
        """Whether it is an activation with a slope of its own."""
        return self.norm is None and set(self.leaves) == {"weight"} and not self.is_weights


def steps_of(model: SavedModel, layers: tuple[NormLayer, ...]) -> list[ModuleStep]:
    """The modules with tensors, in the order of the file."""
    leaves: dict[str, dict[str, TensorRef]] = {}
    for name, tensor in model.tensors.items():
        path, _, leaf = name.rpartition(".")
        leaves.setdefault(path, {})[leaf] = tensor
    norms = {
        path: layer for layer in layers if layer.reached for path in (layer.path, *layer.aliases)
    }
    return _as_run([ModuleStep(path, named, norms.get(path)) for path, named in leaves.items()])


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
            yield behind.norm, here.path, here.leaves["weight"]


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


def _as_run(steps: list[ModuleStep]) -> list[ModuleStep]:
    """The modules with the norms of a block behind their weights, where shapes prove it.

    A block may register ``bn1, conv1, bn2, conv2`` and run ``conv1`` first. Where it changes the
    number of channels, only one of the two orders can run; blocks of the same names are alike.
    """
    blocks = [tuple(block) for _, block in groupby(range(len(steps)), lambda i: _parent(steps[i]))]
    votes: dict[tuple[str, ...], set[bool]] = {}
    for block in blocks:
        if _norms_first([steps[i] for i in block]):
            votes.setdefault(_names(steps, block), set()).update(_proofs(steps, block))
    run = list(steps)
    for block in blocks:
        if votes.get(_names(steps, block)) == {True}:
            for norm, weights in zip(block[::2], block[1::2], strict=True):
                run[norm], run[weights] = steps[weights], steps[norm]
    return run


def _parent(step: ModuleStep) -> str:
    return step.path.rpartition(".")[0]


def _names(steps: list[ModuleStep], block: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(NUMBER.sub("#", _parent(steps[i])) + steps[i].path.rpartition(".")[2]
                 for i in block)  # fmt: skip


def _norms_first(block: list[ModuleStep]) -> bool:
    """Whether a block is norm, weights, norm, weights and so on."""
    pairs = list(zip(block[::2], block[1::2], strict=False))
    return len(block) % 2 == 0 and all(
        first.norm is not None and then.is_weights for first, then in pairs
    )


def _proofs(steps: list[ModuleStep], block: tuple[int, ...]) -> Iterator[bool]:
    """For each pair whose channels prove it: whether the norm runs behind the weights."""
    for norm, place in zip(block[::2], block[1::2], strict=True):
        layer = steps[norm].norm
        makes, takes = steps[place].leaves["weight"].shape[:2]
        features = layer.features if layer is not None else None
        if not features or takes <= 1 or makes == takes:
            continue
        earlier = (s.leaves["weight"].shape[0] for s in reversed(steps[:norm]) if s.is_weights)
        # A norm of a whole number of groups may stand before a grouped convolution.
        if features == makes and (features % takes or next(earlier, None) == takes):
            yield True
        elif features == takes:
            yield False


def usual_order(step: ModuleStep) -> tuple[list[tuple[int, int, str]], int, int]:
    """Within a block: by the last number of the name, and weights before their norm."""
    parent, _, last = step.path.rpartition(".")
    numbers = NUMBER.findall(last)
    parts = [
        (0, int(p), "") if p.isdecimal() and len(p) < 20 else (1, 0, p) for p in parent.split(".")
    ]
    return (
        parts,
        int(numbers[-1]) if numbers and len(numbers[-1]) < 10 else 0,
        int(step.norm is not None),
    )


def norm_first(step: ModuleStep) -> tuple[list[tuple[int, int, str]], int, int]:
    """Within a block: by the last number of the name, and a norm before its weights."""
    parts, number, kind = usual_order(step)
    return parts, number, -kind
