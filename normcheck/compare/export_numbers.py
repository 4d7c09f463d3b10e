"""Does an export hold the numbers of the model that it was made from?

Norm by norm: what is still a norm is compared number by number. What is gone was most often
folded into the convolution or linear layer before it, see :mod:`normcheck.compare.folded_norms`.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from normcheck.compare.export_match import ExportMatch, Fate, NormMatch
from normcheck.compare.folded_norms import Weighted, held
from normcheck.compare.hyperparameters import changes, layer_changes
from normcheck.compare.merged import Branch, merged
from normcheck.compare.model_snapshot import Snapshot
from normcheck.compare.rounding import moved
from normcheck.compare.tensor_names import aligned
from normcheck.compare.weight_sample import comparable
from normcheck.norms.kinds import Family
from normcheck.norms.layer import Floats, NormLayer, Values
from normcheck.norms.layer_numbers import median
from normcheck.norms.weight_layout import layouts_of, stored_bias, stored_weights
from normcheck.saved.checkpoint import SavedModel
from normcheck.saved.graph import Flow, Node
from normcheck.saved.tensors import TensorRef

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
        twin = new.layers.get(path) or _twin(layer, free) or _within(layer, free)
        if twin is not None:
            free.pop(twin.path, None)
            different = (*_differences(layer, twin), *_functions(layer, twin, snapshots))
            norms.append(NormMatch(path, Fate.CHANGED if different else Fate.KEPT, different))
        elif layer.kind.family in _BATCH and layer.has_statistics:
            norms.append(search.folded(layer))
        elif layer.has_statistics:
            norms.append(search.statistics(layer))
        else:
            norms.append(NormMatch(path, Fate.NOT_FOUND))
    norms = search.with_merged(norms)
    functions = tuple(
        change
        for change in changes(old.hyperparameters, new.hyperparameters)
        if not change.norm and change.matters_in_eval
    )
    return ExportMatch(tuple(norms), functions, len(new.anatomy.baked))


def _functions(a: NormLayer, b: NormLayer, snapshots: tuple[Snapshot, Snapshot]) -> Iterator[str]:
    """Groups and shapes of one norm in both, wherever it is called something else."""
    before, after = (
        side.hyperparameters.get(layer.path) for side, layer in zip(snapshots, (a, b), strict=True)
    )
    if before is not None and after is not None:
        for change in layer_changes(a.path, before, after):
            if change.matters_in_eval and change.name != "eps":
                yield str(change)


def _within(layer: NormLayer, free: Mapping[str, NormLayer]) -> NormLayer | None:
    """A norm without tensors, which an export calls by module and operator."""
    if layer.weight is not None or layer.running_mean is not None:
        return None
    for path, other in free.items():
        plain = other.weight is None and other.running_mean is None
        if plain and path.startswith(f"{layer.path}.") and other.kind.family is layer.kind.family:
            return other
    return None


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


def _learnable(tensor: TensorRef) -> bool:
    return comparable(tensor) and min(tensor.shape) > 1


def _how_far(name: str, one: Floats, two: Floats) -> str:
    with np.errstate(all="ignore"):
        if name == "running_var":
            ratio = two / one
            finite = ratio[np.isfinite(ratio)]
            return f"median ratio {median(finite):.3g}" if finite.size else "not finite"
        gap = np.abs(two - one)
        finite = gap[np.isfinite(gap)]
        return f"up to {float(finite.max()):.3g} apart" if finite.size else "not finite"


class _Search:
    """Finds what became of norms that are gone."""

    def __init__(
        self, source: SavedModel, export: SavedModel, old: Snapshot, names: Mapping[str, str]
    ) -> None:
        self.source, self.export, self.old = source, export, old
        self.names = names
        """Names of the export's tensors in the source, by their own."""
        self._layouts = layouts_of(source)
        self._theirs = layouts_of(export) if export.graph is None else {}
        self._flow = Flow(export.graph) if export.graph is not None else None

    def folded(self, layer: NormLayer) -> NormMatch:
        """Whether a norm's numbers are in the weights before it."""
        before = self.old.beside.get(layer.path, "")
        source = self._before(before)
        if source is None:
            return NormMatch(layer.path, Fate.NOT_FOUND)
        best: NormMatch | None = None
        for candidate in self._candidates(layer.path, before, source.weights):
            found = held(layer, source, candidate)
            if found is None:
                continue
            if found.fate in (Fate.FOLDED, Fate.DROPPED):
                if candidate.named or found.fate is Fate.FOLDED:
                    return found
            elif candidate.named and best is None:
                best = found
        return best or NormMatch(layer.path, Fate.NOT_FOUND)

    def statistics(self, layer: NormLayer) -> NormMatch:
        """What became of a layer that applies its statistics as plain numbers.

        An exporter knows no operator for it: its mean is among the stored tensors, or gone.
        """
        mean = layer.running_mean
        assert mean is not None  # noqa: S101  (asked before)
        read = [
            np.asarray(tensor.values(), dtype=np.float64).reshape(-1)
            for tensor in self.export.tensors.values()
            if tensor.numel == mean.size and comparable(tensor)
        ]
        centre = np.abs(mean.numbers)  # added after a change of sign as often as subtracted
        if any(np.allclose(centre, np.abs(values), rtol=_EPS_RATIO) for values in read):
            return NormMatch(layer.path, Fate.KEPT)
        weights = [t for t in self.source.tensors.values() if t.ndim > 1 and _learnable(t)]
        # Folded into the weights behind it, some of these would have changed.
        untouched = bool(weights) and all(self._holds(tensor) for tensor in weights)
        return NormMatch(layer.path, Fate.LEFT_OUT if untouched else Fate.NOT_FOUND)

    def _holds(self, tensor: TensorRef) -> bool:
        """Whether the export has a tensor of the same numbers, as stored or turned."""
        values = np.asarray(tensor.values(), dtype=np.float64)
        for other in self.export.tensors.values():
            if other.numel != tensor.numel or not comparable(other):
                continue
            theirs = np.asarray(other.values(), dtype=np.float64)
            for one in (theirs, theirs.T):
                if one.shape == values.shape and np.allclose(one, values, rtol=_EPS_RATIO):
                    return True
        return False

    def _before(self, path: str) -> Weighted | None:
        """The layer of the source that stands before a norm."""
        name = f"{path}.weight" if path else "weight"
        weights = self.source.tensors.get(name)
        if weights is None or not weights.readable or weights.ndim < 2:
            return None
        bias = self.source.tensors.get(f"{path}.bias" if path else "bias")
        return Weighted(path, weights, bias, self._layouts.get(name))

    def _candidates(self, path: str, before: str, weights: TensorRef) -> list[Weighted]:
        if self._flow is None:
            return self._by_names(before, weights)
        found = [
            candidate
            for node in self._flow.graph.nodes
            if (candidate := self._of_node(node, self._flow, (path, before), weights)) is not None
        ]
        found.sort(key=lambda candidate: not candidate.named)
        return found[:_MOST_TRIED]

    def with_merged(self, norms: list[NormMatch]) -> list[NormMatch]:
        """The norms, those that went into a convolution together with others told."""
        gone = [n for n in norms if n.fate in (Fate.NOT_FOUND, Fate.FOLDED_OTHERWISE)]
        branches = {
            norm.path: Branch(layer, self._before(self.old.beside.get(norm.path, "")))
            for norm in gone
            if (layer := self.old.layers[norm.path]).has_statistics and layer.kind.family in _BATCH
        }
        if len(branches) < 2:
            return norms
        claimed = {norm.weights_path for norm in norms if norm.fate is Fate.FOLDED}
        free = [c for c in self._everything() if c.path not in claimed]
        found = dict(merged(branches, free))
        return [found.get(norm.path, norm) for norm in norms]

    def _everything(self) -> Iterator[Weighted]:
        """All convolutions of the export."""
        if self._flow is not None:
            for node in self._flow.graph.nodes:
                stored = stored_weights(node, self._flow)
                tensor = self.export.tensors.get(stored[0]) if stored is not None else None
                if stored is not None and tensor is not None and tensor.ndim > 2:
                    candidate = self._of_node(node, self._flow, ("", ""), tensor)
                    if candidate is not None:
                        yield candidate
            return
        for name, tensor in self.export.tensors.items():
            path, _, leaf = name.rpartition(".")
            if leaf == "weight" and tensor.ndim > 2 and tensor.readable:
                bias = self.export.tensors.get(f"{path}.bias" if path else "bias")
                called = self.names.get(name, name).rpartition(".")[0]
                yield Weighted(called, tensor, bias, self._theirs.get(name))

    def _by_names(self, before: str, weights: TensorRef) -> list[Weighted]:
        """The layers of a state dict that may be what became of weights."""
        found: list[Weighted] = []
        for name, tensor in self.export.tensors.items():
            path, _, leaf = name.rpartition(".")
            if leaf != "weight" or tensor.numel != weights.numel or not tensor.readable:
                continue
            if tensor.ndim != weights.ndim:
                continue
            bias = self.export.tensors.get(f"{path}.bias" if path else "bias")
            called = self.names.get(name, name).rpartition(".")[0]
            layout = self._theirs.get(name)
            found.append(Weighted(called, tensor, bias, layout, called == before))
        found.sort(key=lambda candidate: not candidate.named)
        return found[:_MOST_TRIED]

    def _of_node(
        self, node: Node, flow: Flow, places: tuple[str, str], weights: TensorRef
    ) -> Weighted | None:
        stored = stored_weights(node, flow)
        tensor = self.export.tensors.get(stored[0]) if stored is not None else None
        if stored is None or tensor is None or tensor.numel != weights.numel:
            return None
        if tensor.ndim != weights.ndim or not tensor.readable:
            return None
        name, layout = stored
        bias = stored_bias(node, flow)
        called = self.names.get(name, name).rpartition(".")[0]
        named = called == places[1] or node.module in places
        return Weighted(
            called or node.module or name,
            tensor,
            self.export.tensors.get(bias) if bias is not None else None,
            layout,
            named,
        )
