"""From a saved model to its anatomy: the norms, and what else the rules look at."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from normcheck.norms.belonging.agreement import Agreement, agreement_of
from normcheck.norms.belonging.first_norm import read_first_norm
from normcheck.norms.belonging.links import (
    Link,
    find_links,
    links_if_registered_otherwise,
)
from normcheck.norms.layer import Anatomy, NormLayer, PowerIteration
from normcheck.norms.layer_numbers import read_count, read_values
from normcheck.norms.recognise import from_modules, from_names
from normcheck.norms.recognise.neighbours import (
    biases_before_norms,
    dropouts_before_norms,
    uncalled_children,
)
from normcheck.saved.checkpoint import SavedModel
from normcheck.saved.prefetch import fetch_ahead

if TYPE_CHECKING:
    from normcheck.saved.tensors import TensorRef


def anatomy_of(
    model: SavedModel, *, judge_links: bool = True, weights_budget: int | None = None
) -> Anatomy:
    """Find the normalization layers of one model and read their numbers.

    Args:
        model: Of a file that is open.
        judge_links: Also read the weights between norms and see whether the running
            statistics fit them, which takes most of the time.
        weights_budget: Bytes of weights that are read for that; None for the usual number.
    """
    if model.graph is not None:
        # What follows a graph is not for who has none.
        from normcheck.norms.find_in_export import anatomy_of_export

        return anatomy_of_export(
            model, model.graph, judge_links=judge_links, weights_budget=weights_budget
        )
    if model.modules is not None:
        layers = from_modules.norm_layers(model.modules)
        if any(layer.kind.name == "BatchNorm" for layer in layers):
            around = from_names.Surroundings(model.tensors)
            layers = tuple(_with_dimensions(layer, around) for layer in layers)
    else:
        layers = from_names.norm_layers(model.tensors, model.versions)
    root = model.modules[0] if model.modules else None
    agreement = None
    if judge_links:
        agreement = _in_either_order(model, layers, weights_budget)
    return Anatomy(
        where=model.where,
        layers=layers,
        has_modules=model.modules is not None,
        class_path=root.class_path if root else None,
        training=root.training if root else None,
        trainable=root is not None and any(t.requires_grad for t in model.tensors.values()),
        tensor_count=len(model.tensors),
        power_iterations=tuple(power_iterations(model)),
        dropouts_before_norms=tuple(dropouts_before_norms(model.modules, layers)),
        agreement=agreement,
        biases_before_norms=biases_before_norms(model, layers),
        averages=_averages(model),
        first=read_first_norm(model, layers) if judge_links else None,
        uncalled_children=uncalled_children(model.modules, layers),
    )


def _in_either_order(
    model: SavedModel, layers: tuple[NormLayer, ...], budget: int | None
) -> Agreement | None:
    """How statistics fit the weights, in the order of the file or in the other that blocks have."""
    found = agreement_with(lambda: find_links(model, layers), layers, budget)
    if found is None or not found.misses:
        return found
    otherwise = links_if_registered_otherwise(model, layers)
    other = agreement_with(lambda: otherwise, layers, budget)
    if other is None or other.misses or len(other.agreeing) <= len(found.agreeing):
        return found
    return other


def _averages(model: SavedModel) -> float | None:
    """How many times an average took in weights; beside a wrapped model in its state dict."""
    count = read_count(model.tensors.get("n_averaged"))
    return count.value if count is not None and count.value > 0 else None


def _with_dimensions(layer: NormLayer, around: from_names.Surroundings) -> NormLayer:
    """A BatchNorm of a class of its own, told apart by the weights around it."""
    if layer.kind.name != "BatchNorm" or layer.features is None:
        return layer
    return replace(layer, kind=around.batch_norm_at(layer.path, layer.features))


def agreement_with(
    links: Callable[[], tuple[Link, ...]], layers: Sequence[NormLayer], budget: int | None
) -> Agreement | None:
    """How the running statistics fit the weights; None where there are none, or no link.

    Args:
        links: Finds the links of the model; not asked where no layer has statistics.
        layers: Of the model.
        budget: Bytes of weights that are read; None for the usual number.
    """
    stored = tuple(layer.path for layer in layers if layer.has_statistics)
    if not stored:
        return None
    found = links()
    return agreement_of(found, stored, budget) if found else None


def power_iterations(model: SavedModel) -> Iterator[PowerIteration]:
    """Vectors of ``spectral_norm``, old (``weight_u``) and as a parametrization (``_u``)."""
    vectors: dict[str, dict[str, TensorRef]] = {}
    for name, tensor in model.tensors.items():
        path, _, leaf = name.rpartition(".")
        if tensor.ndim != 1:
            continue
        if (leaf in ("_u", "_v") and ".parametrizations." in f".{path}.") or (
            leaf.endswith(("_u", "_v")) and f"{path}.{leaf[:-2]}_orig".lstrip(".") in model.tensors
        ):
            vectors.setdefault(path, {})[leaf] = tensor
    fetch_ahead(tensor for named in vectors.values() for tensor in named.values())
    for path, named in vectors.items():
        read = {leaf: read_values(tensor, leaf, {}) for leaf, tensor in named.items()}
        yield PowerIteration(path, {leaf: v for leaf, v in read.items() if v is not None})
