"""Finds what became of norms that are gone from an export: in which weights their numbers are.

By name or place first. Where an exporter left neither, by numbers: weights that are the source's
folded, then such that are the source's in every output up to a factor, then the only ones that
resemble them. What was found for one norm is not offered to another.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from normcheck.compare.exports.export_match import Fate, NormMatch
from normcheck.compare.exports.folded_norms import Weighted, held, resemblance
from normcheck.compare.exports.merged import Branch, merged
from normcheck.compare.model_snapshot import Snapshot
from normcheck.norms.kinds import Family
from normcheck.norms.layer import NormLayer
from normcheck.norms.weight_layout import layouts_of, stored_bias, stored_weights
from normcheck.saved.checkpoint import SavedModel
from normcheck.saved.graph import Flow, Node
from normcheck.saved.tensors import TensorRef

BATCH = (Family.BATCH, Family.FROZEN_BATCH)
_MOST_TRIED = 64
"""Layers of one shape that a folded norm is looked for in."""
_RESEMBLES = 0.5
"""Smallest resemblance of weights that are the same layer of another moment of training."""


class FoldedSearch:
    """What became of the batch norms of one source in one export."""

    def __init__(
        self, source: SavedModel, export: SavedModel, old: Snapshot, names: Mapping[str, str]
    ) -> None:
        """Index the layers with weights.

        Args:
            source: Of a file that is open.
            export: Likewise.
            old: Of the source.
            names: Of the export's tensors in the source, by their own.
        """
        self.source, self.export, self.old = source, export, old
        self.names = names
        self._layouts = layouts_of(source)
        self._theirs = layouts_of(export) if export.graph is None else {}
        self._flow = Flow(export.graph) if export.graph is not None else None

    def found(self, layers: Iterable[NormLayer]) -> dict[str, NormMatch]:
        """What became of batch norms with statistics that the export has no more, by path."""
        gone = {layer.path: layer for layer in layers}
        norms = {path: self._folded(layer) for path, layer in gone.items()}
        norms |= self._resembling([gone[p] for p, n in norms.items() if _lost(n)], norms)
        return self._with_merged(gone, norms)

    def weights_before(self, path: str) -> str:
        """The name of the weights before a norm, in the source; empty where there are none."""
        before = self._before(self.old.beside.get(path, ""))
        return before.name if before is not None else ""

    def _folded(self, layer: NormLayer) -> NormMatch:
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

    def _resembling(
        self, lost: list[NormLayer], norms: Mapping[str, NormMatch]
    ) -> dict[str, NormMatch]:
        """Norms whose weights are told by their numbers, though these are not the source's."""
        claimed = {norm.weights_name for norm in norms.values() if norm.weights_name}
        ranked = []
        for layer in lost:
            before = self.old.beside.get(layer.path, "")
            source = self._before(before)
            if source is None:
                continue
            for candidate in self._candidates(layer.path, before, source.weights):
                if candidate.name in claimed:
                    continue
                alike = resemblance(layer, source, candidate)
                if alike is not None and alike > _RESEMBLES:
                    ranked.append((alike, layer, source, candidate))
        found: dict[str, NormMatch] = {}
        # The most alike first: what is nearly the same is claimed before what is only similar.
        for _, layer, source, candidate in sorted(ranked, key=lambda entry: -entry[0]):
            if layer.path in found or candidate.name in claimed:
                continue
            match = held(layer, source, candidate)
            if match is not None:
                found[layer.path] = match
                claimed.add(candidate.name)
        return found

    def _before(self, path: str) -> Weighted | None:
        """The layer of the source that stands before a norm."""
        name = f"{path}.weight" if path else "weight"
        weights = self.source.tensors.get(name)
        if weights is None or not weights.readable or weights.ndim < 2:
            return None
        bias = self.source.tensors.get(f"{path}.bias" if path else "bias")
        return Weighted(path, weights, bias, self._layouts.get(name), name)

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

    def _with_merged(
        self, gone: Mapping[str, NormLayer], norms: dict[str, NormMatch]
    ) -> dict[str, NormMatch]:
        """The norms, those that went into a convolution together with others told."""
        branches = {
            path: Branch(gone[path], self._before(self.old.beside.get(path, "")))
            for path, norm in norms.items()
            if norm.fate in (Fate.NOT_FOUND, Fate.FOLDED_OTHERWISE)
        }
        if len(branches) < 2:
            return norms
        claimed = {n.weights_name for n in norms.values() if n.fate is Fate.FOLDED}
        free = [c for c in self._everything() if c.name not in claimed]
        return norms | dict(merged(branches, free))

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
            if name.rpartition(".")[2] == "weight" and tensor.ndim > 2 and tensor.readable:
                yield self._by_name(name, tensor)

    def _by_names(self, before: str, weights: TensorRef) -> list[Weighted]:
        """The layers of a state dict that may be what became of weights."""
        found: list[Weighted] = []
        for name, tensor in self.export.tensors.items():
            leaf = name.rpartition(".")[2]
            if leaf != "weight" or tensor.numel != weights.numel or not tensor.readable:
                continue
            if tensor.ndim == weights.ndim:
                candidate = self._by_name(name, tensor)
                found.append(replace(candidate, named=candidate.path == before))
        found.sort(key=lambda candidate: not candidate.named)
        return found[:_MOST_TRIED]

    def _by_name(self, name: str, tensor: TensorRef) -> Weighted:
        """A layer of a state dict."""
        path = name.rpartition(".")[0]
        bias = self.export.tensors.get(f"{path}.bias" if path else "bias")
        called = self.names.get(name, name).rpartition(".")[0]
        return Weighted(called, tensor, bias, self._theirs.get(name), name)

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
            name,
            named,
        )


def _lost(norm: NormMatch) -> bool:
    return norm.fate is Fate.NOT_FOUND
