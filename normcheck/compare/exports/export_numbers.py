"""Does an export hold the numbers of the model that it was made from?

Norm by norm: what is still a norm is compared number by number. What is gone was most often
folded into the convolution or linear layer before it, see ``folded_norms.py``.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from normcheck.compare.exports.export_match import (
    ExportMatch,
    Fate,
    NormMatch,
    WeightFate,
    WeightMatch,
)
from normcheck.compare.exports.export_twins import equal, twins
from normcheck.compare.exports.export_weights import ExportedWeights
from normcheck.compare.exports.folded_norms import factors
from normcheck.compare.exports.folded_search import BATCH, FoldedSearch
from normcheck.compare.hyperparameters import (
    HyperparameterChange,
    changes,
    convolutions,
    layer_changes,
)
from normcheck.compare.model_config import activation_changes
from normcheck.compare.model_snapshot import Snapshot
from normcheck.compare.tensor_names import aligned
from normcheck.norms.layer import Floats, NormLayer
from normcheck.norms.layer_numbers import median
from normcheck.saved.checkpoint import SavedModel

_EPS_RATIO = 1e-3
_FEW = 4
"""Different numbers up to which others may have them by chance."""


def export_match(
    source: SavedModel, export: SavedModel, snapshots: tuple[Snapshot, Snapshot]
) -> ExportMatch:
    """What became of every norm of the source, and of its other weights.

    Args:
        source: Of a file that is open.
        export: Likewise, with its graph where it has one.
        snapshots: Of the two, the export's with the source's names.
    """
    old, new = snapshots
    shapes = [{n: t.shape for n, t in model.tensors.items()} for model in (export, source)]
    names = aligned(shapes[0], shapes[1])
    weights = ExportedWeights(source, export, snapshots, names)
    norms: dict[str, NormMatch] = {}
    both = twins(old.layers, new.layers)
    taken = {id(twin) for twin in both.values()}
    for path, twin in both.items():
        layer = old.layers[path]
        different = (
            *_differences(layer, twin),
            *_functions(layer, twin, snapshots),
            *_elsewhere(layer, twin, weights),
        )
        norms[path] = NormMatch(path, Fate.CHANGED if different else Fate.KEPT, different)
    gone = [layer for path, layer in old.layers.items() if path not in norms]
    search = FoldedSearch(source, export, old, names)
    norms |= search.found(
        layer for layer in gone if layer.has_statistics and layer.kind.family in BATCH
    )
    told = [norm for norm in norms.values() if norm.weights_name]
    before = {search.weights_before(norm.path) for norm in told}
    folded = {name for path in before for name in (path, _bias_beside(path))}
    claimed = {norm.weights_name for norm in told}
    claimed |= {_bias_beside(name) for name in claimed}
    others = weights.matches(frozenset(folded), frozenset(claimed))
    for layer in gone:
        found = norms.get(layer.path)
        if found is None or found.fate is Fate.NOT_FOUND:
            half = tuple(_one_of_two(layer, weights))
            fate = Fate.CHANGED if half else _absent(layer, weights, others)
            norms[layer.path] = NormMatch(layer.path, fate, half)
    return ExportMatch(
        tuple(norms[path] for path in old.layers),
        tuple(_other_functions(snapshots, (source, export), [*told, *others])),
        others,
        tuple(path for path, layer in new.layers.items() if id(layer) not in taken),
        tuple(dict.fromkeys(mode.module or mode.node for mode in new.anatomy.baked)),
    )


def _elsewhere(a: NormLayer, b: NormLayer, weights: ExportedWeights) -> Iterator[str]:
    """γ and β that the export applies outside its norm, or nowhere."""
    for name, default in (("weight", 1.0), ("bias", 0.0)):
        one, two = getattr(a, name), getattr(b, name)
        if one is None or two is not None or bool(np.all(one.numbers == default)):
            continue
        if not weights.holds(one.numbers) and (own := weights.under(f"{a.path}.{name}")):
            yield f"{name}: other numbers in {own}"


def _one_of_two(layer: NormLayer, weights: ExportedWeights) -> Iterator[str]:
    """Which of γ and β is nowhere in an export that has the other, inside another operator.

    What folds a norm folds both.
    """
    both = {"weight": layer.weight, "bias": layer.bias}
    told = {
        name: weights.holds(part.numbers)
        for name, part in both.items()
        if part is not None and np.unique(part.numbers).size > _FEW
    }
    if not layer.has_statistics and set(told.values()) == {True, False}:
        there, gone = sorted(told, key=lambda name: not told[name])
        yield f"{gone}: nowhere in the export, which has the {there}"


def _bias_beside(weights: str) -> str:
    path, dot, _ = weights.rpartition(".")
    return f"{path}{dot}bias"


def _absent(layer: NormLayer, weights: ExportedWeights, others: tuple[WeightMatch, ...]) -> Fate:
    """What became of a norm that is under no name and in no weights before.

    It was left out where its numbers are nowhere and none of the weights changed for it.
    """
    statistics = layer.running_mean is not None and layer.running_var is not None
    parts = (layer.running_mean,) if statistics else (layer.weight, layer.bias)
    own = [part.numbers for part in parts if part is not None]
    telling = [numbers for numbers in own if np.unique(numbers).size > 1]
    if not telling:
        return Fate.NOT_FOUND
    if statistics and layer.kind.family in BATCH:
        telling += [factor for _, factor in factors(layer)]  # applied as one product and one sum
    kept = [weights.holds(sign * numbers) for numbers in telling for sign in (1, -1)]
    if any(kept):
        # An exporter knows no operator for it, and wrote its numbers out.
        return Fate.KEPT if statistics and layer.kind.family not in BATCH else Fate.NOT_FOUND
    same = sum(match.fate is WeightFate.SAME for match in others)
    changed = any(m.fate in (WeightFate.SCALED, WeightFate.DIFFERENT) for m in others)
    return Fate.LEFT_OUT if same and not changed else Fate.NOT_FOUND


def _other_functions(
    snapshots: tuple[Snapshot, Snapshot],
    models: tuple[SavedModel, SavedModel],
    told: Iterable[NormMatch | WeightMatch],
) -> Iterator[HyperparameterChange]:
    """Hyperparameters outside norms: of layers by path, of convolutions also by their weights."""
    old, new = snapshots
    source, export = models
    seen = set()
    for record in source.modules or ():
        # An exporter may call a layer by another of its names.
        before = old.hyperparameters.get(record.path)
        for alias in record.aliases if record.path not in new.hyperparameters else ():
            after = new.hyperparameters.get(alias)
            if before is not None and after is not None and not (before.norm or after.norm):
                seen.add(record.path)
                yield from layer_changes(record.path, before, after)
    for change in changes(old.hyperparameters, new.hyperparameters):
        if not change.norm and change.matters_in_eval:
            seen.add(change.path)
            yield change
    yield from activation_changes(old.hyperparameters, new.hyperparameters)
    nodes = convolutions(export.graph) if export.graph is not None else {}
    for match in told:
        if isinstance(match, NormMatch):
            path, theirs = old.beside.get(match.path, ""), match.weights_name
        else:
            path, theirs = match.name.rpartition(".")[0], match.theirs
        before, after = old.hyperparameters.get(path), nodes.get(theirs)
        if path not in seen and before is not None and after is not None and not before.norm:
            seen.add(path)
            yield from layer_changes(path, before, after)


def _functions(a: NormLayer, b: NormLayer, snapshots: tuple[Snapshot, Snapshot]) -> Iterator[str]:
    """Groups and shapes of one norm in both, wherever it is called something else."""
    before, after = (
        side.hyperparameters.get(layer.path) for side, layer in zip(snapshots, (a, b), strict=True)
    )
    told = a.eps is not None and b.eps is not None  # a configuration may tell it instead
    if before is not None and after is not None:
        for change in layer_changes(a.path, before, after):
            if change.matters_in_eval and not (told and change.name == "eps"):
                yield str(change)


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
            elif not equal(one, two):
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
