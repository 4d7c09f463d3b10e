"""Running statistics that are in the old file and not in the new one.

## What it does
Compares two files layer by layer. Reported are layers of which the old file has running statistics
and the new one γ and β alone, or, under the same weights, nothing at all.

## Why is this bad?
Running statistics are buffers. Whoever saves `named_parameters()`, copies parameters by hand, or
writes adapters and their trained heads from a list of parameters, leaves them out. The file loads
with `strict=False`, the layer starts from mean 0 and variance 1, and eval mode predicts otherwise
than the model did that was saved.

## How severe
A warning: γ and β of the layer are there, so that it was meant to be saved. Info where only the new
file has statistics.

## Stays silent
For layers that the new file says are of another kind (GroupNorm in place of BatchNorm), for tensors
whose values a file does not hold, and for norms that went into the weights before them.

## What to do
Save `state_dict()`, not `named_parameters()`; of an adapter's trained modules save the buffers too.
What is lost can be re-estimated on training data.

## Example
    torch.save(dict(model.named_parameters()), "head.pt")   # no running_mean, no running_var
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import fold, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from normcheck.compare.movement import Comparison, LayerChange

_GONE, _NEW = (True, False), (False, True)


def check(subject: Subject) -> Iterator[Finding]:
    """Layers that lost their buffers, and those that got some."""
    comparison = subject.compared
    if comparison.ranks or not comparison.compared:
        return
    one_sided = comparison.total.one_sided
    gone = [n for n in one_sided if n.has_statistics == _GONE and not n.replaced]
    new = [n for n in one_sided if n.has_statistics == _NEW and not n.replaced]
    # Under other weights a layer that is gone may be in them, under other names be one of those.
    whole = () if comparison.total.learned or all(comparison.unmatched) else comparison.lost
    if gone or whole:
        yield _gone(comparison, gone, whole)
    if new:
        yield RULE.finding(
            severity=Severity.INFO,
            layers=[n.path for n in new],
            title=f"running statistics of {_named(new, ())} are in the new file only",
            detail=f"{fold([n.path for n in new])}: γ and β are in both files.",
            consequence="None; the old file cannot be used in eval mode without them.",
            fix="use the new file",
            discriminator="new",
        )


def _gone(comparison: Comparison, gone: Sequence[LayerChange], whole: Sequence[str]) -> Finding:
    names = comparison.name(0), comparison.name(len(comparison.sides) - 1)
    paths = [*(n.path for n in gone), *whole]
    channels = sum(n.features or 0 for n in gone)
    kept = "has γ and β alone" if not whole else "has not"
    return RULE.finding(
        layers=paths,
        confidence=Confidence.HIGH,
        title=f"running statistics of {_named(gone, whole)} are gone",
        detail=f"{names[0]} has them, {names[1]} {kept}: {fold(paths)}.",
        consequence=(
            f"What loads {names[1]} starts from mean 0 and variance 1 there: eval mode does not "
            "normalise, and predicts otherwise than the model that was saved."
        ),
        fix="save state_dict(), not named_parameters(); re-estimate what is lost on training data",
        evidence=(Evidence("layers without their statistics", float(len(paths)), 0.0, channels),),
        discriminator="lost",
    )


def _named(layers: Sequence[LayerChange], whole: Sequence[str]) -> str:
    paths = [*(n.path for n in layers), *whole]
    return paths[0] or "the layer" if len(paths) == 1 else plural(len(paths), "layer")


RULE = Rule(
    code="NC607",
    name="lost-buffers",
    summary="running statistics that the new file left out",
    severity=Severity.WARNING,
    need=Need.PAIR,
    page=__doc__ or "",
    check=check,
)
