"""Does an export hold the numbers of the model that it was made from?

Norm by norm: what is still a norm is compared number by number. What is gone was most often
folded into the convolution or linear layer before it:

    W' = W γ / √(running_var + eps),   b' = (b - running_mean) γ / √(running_var + eps) + β

(per output channel), which is computed from the source and held against the export's weights.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from normcheck.compare.export_match import ExportMatch, Fate, NormMatch
from normcheck.compare.model_snapshot import Snapshot
from normcheck.compare.rounding import moved
from normcheck.compare.tensor_names import aligned
from normcheck.norms.kinds import Family
from normcheck.norms.layer import Floats, NormLayer, Values
from normcheck.norms.layer_numbers import median
from normcheck.saved.checkpoint import SavedModel
from normcheck.saved.dtypes import Array
from normcheck.saved.graph import Graph, Node, Op
from normcheck.saved.tensors import TensorRef

_USUAL_EPS = (1e-5, 1e-3, 1e-6)
"""Tried where the source is a state dict, which has no eps: torch's, TensorFlow's, others."""
_FITS = 1e-4
_FITS_HALF = 2e-2
"""Largest relative deviation of folded weights that rounding explains."""
_EPS_RATIO = 1e-3
_MOST_TRIED = 64
"""Layers of one shape that a folded norm is looked for in."""
_BATCH = (Family.BATCH, Family.FROZEN_BATCH)


def export_match(
    source: SavedModel, export: SavedModel, snapshots: tuple[Snapshot, Snapshot]
) -> ExportMatch:
    """What became of every norm of the source.

    Args:
        source: Of a file that is open.
        export: Likewise, with its graph where it has one.
        snapshots: Of the two, the export's with the source's names.
    """
    old, new = snapshots
    shapes = [{n: t.shape for n, t in model.tensors.items()} for model in (export, source)]
    search = _Search(source, export, old, aligned(shapes[0], shapes[1]))
    free = {path: layer for path, layer in new.layers.items() if path not in old.layers}
    norms = []
    for path, layer in old.layers.items():
        twin = new.layers.get(path) or _twin(layer, free)
        if twin is not None:
            free.pop(twin.path, None)
            different = tuple(_differences(layer, twin))
            norms.append(NormMatch(path, Fate.CHANGED if different else Fate.KEPT, different))
        elif layer.kind.family in _BATCH and layer.has_statistics:
            norms.append(search.folded(layer))
        else:
            norms.append(NormMatch(path, Fate.NOT_FOUND))
    return ExportMatch(tuple(norms), len(new.anatomy.baked))


def _twin(layer: NormLayer, free: Mapping[str, NormLayer]) -> NormLayer | None:
    """A norm of the export under another name, told by its numbers."""
    for other in free.values():
        if other.kind.family is not layer.kind.family or other.features != layer.features:
            continue
        pairs = [
            (a, b)
            for a, b in (
                (layer.running_mean, other.running_mean),
                (layer.running_var, other.running_var),
                (layer.weight, other.weight),
                (layer.bias, other.bias),
            )
            if a is not None and b is not None
        ]
        if pairs and all(_equal(a, b) for a, b in pairs):
            return other
    return None


def _equal(a: Values, b: Values) -> bool:
    return a.size == b.size and not moved(a.numbers, b.numbers, a.dtype, b.dtype).any()


def _differences(a: NormLayer, b: NormLayer) -> Iterator[str]:
    for name, default in (("running_mean", None), ("running_var", None), ("weight", 1.0),
                          ("bias", 0.0)):  # fmt: skip
        one, two = getattr(a, name), getattr(b, name)
        # Exporters write γ = 1 and β = 0 where the source has none.
        if one is None and two is not None and default is not None:
            if not bool(np.all(two.numbers == default)):
                yield f"{name}: only in the export"
        elif one is not None and two is not None:
            if one.size != two.size:
                yield f"{name}: {one.size} values against {two.size}"
            elif not _equal(one, two):
                yield f"{name}: {_how_far(name, one.numbers, two.numbers)}"
        elif one is not None and two is None and name.startswith("running"):
            yield f"{name}: not in the export"
    if a.eps is not None and b.eps is not None and abs(a.eps - b.eps) > _EPS_RATIO * a.eps:
        yield f"eps: {a.eps:g} against {b.eps:g}"


def _how_far(name: str, one: Floats, two: Floats) -> str:
    with np.errstate(all="ignore"):
        if name == "running_var":
            ratio = two / one
            finite = ratio[np.isfinite(ratio)]
            return f"median ratio {median(finite):.3g}" if finite.size else "not finite"
        gap = np.abs(two - one)
        finite = gap[np.isfinite(gap)]
        return f"up to {float(finite.max()):.3g} apart" if finite.size else "not finite"


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    """A layer with weights of the export."""

    path: str
    weights: TensorRef
    bias: TensorRef | None
    named: bool
    """Whether its name or place says that it is the one before the norm."""


class _Search:
    """Finds what became of norms that are gone."""

    def __init__(
        self, source: SavedModel, export: SavedModel, old: Snapshot, names: Mapping[str, str]
    ) -> None:
        self.source, self.export, self.old = source, export, old
        self.names = names
        """Names of the export's tensors in the source, by their own."""

    def folded(self, layer: NormLayer) -> NormMatch:
        """Whether a norm's numbers are in the weights before it."""
        before = self.old.beside.get(layer.path, "")
        weights = self.source.tensors.get(f"{before}.weight" if before else "weight")
        if weights is None or not weights.readable or weights.ndim < 2:
            return NormMatch(layer.path, Fate.NOT_FOUND)
        bias = self.source.tensors.get(f"{before}.bias")
        plain = _matrix(weights)
        if plain.shape[0] != layer.features:
            return NormMatch(layer.path, Fate.NOT_FOUND)
        shift = _flat(bias) if bias is not None and bias.readable else np.zeros(len(plain))
        best: NormMatch | None = None
        for candidate in self._candidates(layer.path, before, weights):
            found = _held(layer, plain, shift, candidate)
            if found.fate in (Fate.FOLDED, Fate.DROPPED):
                if candidate.named or found.fate is Fate.FOLDED:
                    return found
            elif candidate.named and best is None:
                best = found
        return best or NormMatch(layer.path, Fate.NOT_FOUND)

    def _candidates(self, path: str, before: str, weights: TensorRef) -> list[_Candidate]:
        found: list[_Candidate] = []
        graph = self.export.graph
        if graph is not None:
            for node in graph.nodes:
                candidate = self._of_node(node, graph, (path, before), weights)
                if candidate is not None:
                    found.append(candidate)
        found.sort(key=lambda candidate: not candidate.named)
        return found[:_MOST_TRIED]

    def _of_node(
        self, node: Node, graph: Graph, places: tuple[str, str], weights: TensorRef
    ) -> _Candidate | None:
        if node.op not in (Op.CONVOLUTION, Op.LINEAR, Op.MATRIX_PRODUCT):
            return None
        name = graph.stored.get(node.operands.get("weight", ""))
        tensor = self.export.tensors.get(name) if name is not None else None
        if name is None or tensor is None or tensor.shape != weights.shape or not tensor.readable:
            return None
        bias = graph.stored.get(node.operands.get("bias", ""))
        called = self.names.get(name, name).rpartition(".")[0]
        named = called == places[1] or node.module in places
        return _Candidate(
            called or node.module or name,
            tensor,
            self.export.tensors.get(bias) if bias is not None else None,
            named,
        )


def _held(layer: NormLayer, plain: Array, shift: Array, candidate: _Candidate) -> NormMatch:
    """The export's weights against the source's, folded and not."""
    mean, variance = layer.running_mean, layer.running_var
    assert mean is not None  # noqa: S101  (asked before)
    assert variance is not None  # noqa: S101
    gamma = layer.weight.numbers if layer.weight else np.ones(mean.size)
    beta = layer.bias.numbers if layer.bias else np.zeros(mean.size)
    theirs = _matrix(candidate.weights)
    bias = candidate.bias
    readable = bias is not None and bias.readable and bias.numel == len(theirs)
    moved_by = _flat(bias) if bias is not None and readable else np.zeros(len(theirs))
    fits = _FITS_HALF if candidate.weights.dtype.itemsize <= 2 else _FITS
    deviations = []
    with np.errstate(all="ignore"):
        for eps in (layer.eps,) if layer.eps is not None else _USUAL_EPS:
            factor = gamma / np.sqrt(variance.numbers + eps)
            deviations.append(
                max(
                    _apart(theirs, plain * factor[:, None]),
                    _apart(moved_by, (shift - mean.numbers) * factor + beta),
                )
            )
    deviation = min(deviations)
    if deviation <= fits:
        return NormMatch(layer.path, Fate.FOLDED, (), candidate.path, deviation)
    if _apart(theirs, plain) <= fits and _apart(moved_by, shift) <= fits:
        return NormMatch(layer.path, Fate.DROPPED, (), candidate.path, deviation)
    with np.errstate(all="ignore"):
        ratio = np.linalg.norm(theirs, axis=1) / np.linalg.norm(plain * factor[:, None], axis=1)
    finite = ratio[np.isfinite(ratio)]
    text = f"weights {median(finite):.3g} times as large" if finite.size else "weights not finite"
    return NormMatch(layer.path, Fate.FOLDED_OTHERWISE, (text,), candidate.path, deviation)


def _apart(a: Array, b: Array) -> float:
    """Largest difference relative to the largest value; infinite where one is not finite."""
    largest = float(max(np.abs(b).max(initial=0.0), 1e-30))
    gap = float(np.abs(a - b).max(initial=0.0)) / largest
    return gap if np.isfinite(gap) else float("inf")


def _matrix(tensor: TensorRef) -> Array:
    values = np.asarray(tensor.values(), dtype=np.float64)
    return values.reshape(values.shape[0], -1)


def _flat(tensor: TensorRef) -> Array:
    return np.asarray(tensor.values(), dtype=np.float64).reshape(-1)
