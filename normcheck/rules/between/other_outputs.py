"""The same tensors that give other outputs.

## What it does
With data, or `--run`, `diff` runs the models of both files on the same input, each in eval mode.
Where all tensors and all hyperparameters that the files hold are the same and the outputs are not,
it says so, with the share of changed decisions and the first layer that differs.

## Why is this bad?
What differs is then the code that computes with these tensors: a port that leaves out an
activation, a norm before instead of behind a sum, another eps, padding or order of heads. Strict
loading succeeds, and the model predicts otherwise.

## How severe
An error where the outputs differ by more than element types and kernels explain.

## Stays silent
Without data; where tensors or hyperparameters differ (what moved is told by the other rules, and
how far the outputs moved stands in the first line).

## What to do
Compare the code of both at the first layer that is named.

## Example
    normcheck diff ours.pt port.pt --data validation.npz --model ours:Net,port:Net
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normcheck.findings import Evidence, Severity
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import percent, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normcheck.compare.movement import Comparison
    from normcheck.findings import Finding


def check(subject: Subject) -> Iterator[Finding]:
    """One finding, where nothing in the files explains it."""
    comparison = subject.compared
    outputs = comparison.outputs
    if outputs is None or not outputs.differ or not _same(comparison):
        return
    first = outputs.first_apart
    flips = "" if outputs.flips is None else f"; {percent(outputs.flips)} of the decisions differ"
    where = f" The first layer that differs is {first}." if first else ""
    yield RULE.finding(
        layers=(first,) if first else (),
        title="the same tensors give other outputs",
        detail=(
            f"On {plural(outputs.samples, 'sample')} ({outputs.source}) the outputs differ by "
            f"{percent(outputs.difference)}, at most by {outputs.largest:.3g}{flips}.{where}"
        ),
        consequence="The code of the two models computes otherwise: they predict otherwise.",
        fix="compare the code of both there: activations, eps, padding, the order of the layers",
        evidence=(
            Evidence(
                "relative difference of the outputs",
                outputs.difference,
                outputs.tolerance,
                outputs.samples,
            ),
        ),
    )


def _same(comparison: Comparison) -> bool:
    total = comparison.total
    changed = any(change.matters_in_eval for change in comparison.hyperparameters)
    compared = comparison.compared and not comparison.apart
    return compared and not (total.learned or total.stats_moved or changed)


RULE = Rule(
    code="NC609",
    name="other-outputs",
    summary="the same tensors that give other outputs",
    severity=Severity.ERROR,
    need=Need.PAIR,
    page=__doc__ or "",
    check=check,
)
