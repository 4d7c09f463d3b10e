"""From a saved model to its anatomy: the norms, and what else the rules look at."""

from dataclasses import replace

from normcheck.norms.anatomy import Anatomy
from normcheck.norms.belonging import spikes
from normcheck.norms.belonging.agreement import Agreement
from normcheck.norms.belonging.first_norm import read_first_norm
from normcheck.norms.belonging.fit_links import agreement_with
from normcheck.norms.belonging.joins.joined import with_joins
from normcheck.norms.belonging.joins.unordered import with_sources_found
from normcheck.norms.belonging.modulation import gated_widths, without_modulated
from normcheck.norms.belonging.structure.links import find_links, links_if_registered_otherwise
from normcheck.norms.belonging.structure.module_step import ModuleStep
from normcheck.norms.belonging.structure.steps import places_served, steps_of
from normcheck.norms.belonging.sums.residual_sums import with_sums
from normcheck.norms.layer import NormLayer
from normcheck.norms.layer_numbers import read_count
from normcheck.norms.recognise import from_names
from normcheck.norms.recognise.neighbours import (
    biases_before_norms,
    dropouts_before_norms,
    uncalled_children,
)
from normcheck.norms.recognise.spectral import power_iterations
from normcheck.saved.checkpoint import SavedModel


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
        # A graph is followed only where there is one: the module imports a good deal.
        from normcheck.norms.find_in_export import anatomy_of_export

        return anatomy_of_export(
            model, model.graph, judge_links=judge_links, weights_budget=weights_budget
        )
    if model.modules is not None:
        from normcheck.norms.recognise import from_modules

        layers = from_modules.norm_layers(model.modules)
        if any(layer.kind.name == "BatchNorm" for layer in layers):
            around = from_names.Surroundings(model.tensors)
            layers = tuple(_with_dimensions(layer, around) for layer in layers)
    else:
        layers = from_names.norm_layers(model.tensors, model.versions)
    root = model.modules[0] if model.modules else None
    agreement, first = None, None
    if judge_links:
        stored = any(layer.has_statistics for layer in layers)
        steps = steps_of(model, layers) if stored else []
        agreement = _in_either_order(model, layers, steps, weights_budget)
        if agreement is not None:
            agreement = without_modulated(agreement, steps)
            if gated := gated_widths(steps):
                agreement = replace(agreement, gated=gated)
        first = read_first_norm(model, layers, steps)
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
        places_served=places_served(model, layers),
        averages=_averages(model),
        first=first,
        uncalled_children=uncalled_children(model.modules, layers),
    )


def _in_either_order(
    model: SavedModel, layers: tuple[NormLayer, ...], steps: list[ModuleStep], budget: int | None
) -> Agreement | None:
    """How statistics fit the weights, in the order of the file or in the other that blocks have."""
    if spikes.has_neurons(model, layers):
        return spikes.unjudged(layers)
    found = agreement_with(lambda: find_links(model, layers, steps), layers, budget)
    if found is not None and spikes.explain(found):
        return spikes.unjudged(layers)
    found = with_sources_found(found, model, layers, steps, budget)
    if found is None:
        return None
    if not found.misses:
        summed = with_sums(found, model, layers, steps, budget)
        return with_joins(summed, model, layers, steps, budget)
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
