"""The anatomy of an exported model, which a graph of operators tells."""

from normcheck.norms.anatomy import Anatomy
from normcheck.norms.belonging.first_norm import held_against_weights
from normcheck.norms.belonging.fit_links import agreement_with
from normcheck.norms.belonging.structure.first_in_graph import first_in_graph
from normcheck.norms.belonging.structure.graph_links import (
    before_norms,
    behind_activations,
    graph_links,
)
from normcheck.norms.recognise.baked_modes import baked_modes, modes_given, still_counting
from normcheck.norms.recognise.from_graph import norm_layers, norms_of, unused_statistics
from normcheck.norms.recognise.spectral import power_iterations
from normcheck.saved.checkpoint import SavedModel
from normcheck.saved.graph import Graph


def anatomy_of_export(
    model: SavedModel, graph: Graph, *, judge_links: bool, weights_budget: int | None
) -> Anatomy:
    """As ``find_norms.anatomy_of``, for a model with a graph.

    Args:
        model: Of a file that is open.
        graph: Of the model.
        judge_links: As there.
        weights_budget: As there.
    """
    norms = norms_of(graph)
    layers = norm_layers(model, norms)
    root = model.modules[0] if model.modules else None
    biases, dropouts = before_norms(norms, model.tensors)
    agreement, first = None, None
    if judge_links:
        begins = first_in_graph(norms, layers, model.tensors)
        first = held_against_weights(begins) if begins is not None else None
        agreement = agreement_with(
            lambda: graph_links(norms, layers, model.tensors), layers, weights_budget
        )
    return Anatomy(
        where=model.where,
        layers=layers,
        has_modules=True,
        class_path=root.class_path if root else None,
        training=root.training if root else None,
        trainable=root is not None and any(t.requires_grad for t in model.tensors.values()),
        tensor_count=len(model.tensors),
        power_iterations=tuple(power_iterations(model)),
        dropouts_before_norms=dropouts,
        agreement=agreement,
        first=first,
        biases_before_norms=biases,
        exported=True,
        baked=baked_modes(norms),
        still_counting=still_counting(norms),
        modes_given=modes_given(norms),
        folded=graph.folded,
        unused_statistics=unused_statistics(model, norms),
        behind_activations=behind_activations(norms),
    )
