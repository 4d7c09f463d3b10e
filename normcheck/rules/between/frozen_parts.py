"""What is said of frozen parts: those that stand still, and those whose statistics do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.wording import percent, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normcheck.compare.movement import Comparison, LayerChange
    from normcheck.rules.between.accused_layers import Accused
    from normcheck.rules.rule import Rule


def frozen_by_class(layer: LayerChange) -> bool:
    """Whether this looks like a FrozenBatchNorm: no count, and γ and β are buffers too."""
    affine = layer.affine
    return layer.batches == (None, None) and affine is not None and not affine.moved


def frozen_part(rule: Rule, comparison: Comparison, frozen: Sequence[LayerChange]) -> Finding:
    """A part of the model that stood still as a whole, weights and statistics alike."""
    rest = len(comparison.total.tracked) - len(frozen)
    beside = f"while {plural(rest, 'other layer')} moved" if rest else "while other weights moved"
    return rule.finding(
        severity=Severity.INFO,
        layers=[n.path for n in frozen],
        title=f"{plural(len(frozen), 'batch norm layer')} stood still as a whole",
        detail=f"Neither the weights before them, γ and β nor the statistics moved, {beside}.",
        consequence="None: a frozen part keeps its statistics as well as its weights.",
        fix="check that this part was frozen on purpose",
        discriminator="frozen",
    )


def frozen_norms(rule: Rule, layers: Sequence[LayerChange]) -> Finding:
    """Layers that look like FrozenBatchNorm in a state dict."""
    return rule.finding(
        severity=Severity.INFO,
        confidence=Confidence.MEDIUM,
        layers=[n.path for n in layers],
        title=f"{plural(len(layers), 'batch norm layer')} stood still like FrozenBatchNorm",
        detail=(
            "The weights before them moved; statistics, γ and β did not, and no batch count is "
            "stored, as in torchvision's and detectron2's FrozenBatchNorm2d."
        ),
        consequence="None where they are such layers: these apply stored values in both modes.",
        fix="check that these are FrozenBatchNorm layers",
        discriminator="frozen norms",
    )


def drifted_part(rule: Rule, accused: Accused) -> Finding:
    """A frozen part whose statistics moved on."""
    others = max((s.weights.distance for s in accused.steps if s.weights), default=0.0)
    return rule.finding(
        severity=Severity.WARNING,
        layers=accused.paths,
        confidence=Confidence.MEDIUM,
        title=f"{accused.norms} collected statistics though frozen",
        detail=(
            f"The weights before them, γ and β are identical{accused.when}, other weights moved "
            f"by {percent(others)} of their length; {accused.shifted}."
        ),
        consequence=(
            "requires_grad = False stops weights, not statistics: in eval mode the frozen part no "
            "longer computes what it was trained to."
        ),
        fix=(
            "put the frozen part into eval mode after each model.train(); ignore this where it is "
            "meant to adapt to the new data"
        ),
        evidence=(
            accused.shift_evidence,
            Evidence("movement of these layers' weights", 0.0, 0.0, len(accused.paths)),
        ),
        discriminator="frozen part",
    )
