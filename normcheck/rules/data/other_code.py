"""The statistics fit another function than the one that the code computes.

## What it does
Where the first norms fit their statistics and later ones do not, nothing but code lies between
them. It then tries what conversions and ports most often change: eps 0.001 and 0.00001, activations
taken out, put in behind the norms, made to work in place, or exchanged for another (ReLU, SiLU,
GELU, leaky ReLU, hard swish, ReLU6), borders (reflected, repeated, circular, zeros, those of
TensorFlow's `same`), interpolation (nearest, bilinear, with aligned corners, bicubic) and pooling
(average for max, max for average), and names the one under which all norms fit. Where none does
and norms are off by one factor in all their channels, the factor is named: dropout without its
scale, a division that was lost.

## Why is this bad?
The weights and the statistics are right, the model class is not the one that was trained: a
conversion lost an activation or put one in, eps is another framework's. Predictions are wrong, and
re-estimating the statistics hides the cause: the weights go on computing what they were not
trained for.

## How severe
As the outputs say: an error where labels show that answers suffer, a warning otherwise.

## What to do
Correct the code (or load the file into the class that was trained), and scan again. `normcheck fix`
refuses to re-estimate while another function fits.

## Example
    class Norm(nn.SyncBatchNorm):  # trained: this class also applied ReLU
        def forward(self, x): return F.relu(super().forward(x))
    # served: nn.BatchNorm2d, without it
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.rules.data.meant_code import meant_code
from normcheck.rules.data_verdict import verdict
from normcheck.rules.rule import Need, Rule, Subject, impossible_statistics, place
from normcheck.wording import number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normcheck.live.misfit import OtherCode


def check(subject: Subject) -> Iterator[Finding]:
    """One finding, on the first layer that is off."""
    data = subject.run.against_data if subject.run else None
    judged = verdict(subject.run) if subject.run else None
    found = meant_code(data, judged.harm) if judged is not None else None
    if found is None or judged is None or impossible_statistics(subject):
        return
    yield RULE.finding(
        severity=judged.at_least(Severity.WARNING),
        confidence=Confidence.MEDIUM,
        layers=[found.first_wrong],
        title="the statistics fit another function than this code computes",
        detail=(
            f"{_where(found)} (off by up to {number(found.before)}, in "
            f"standard deviations or a log variance ratio){_between(found)}. With "
            f"{found.words} all norms fit (at most {number(found.after)} off). "
            f"{judged.text}"
        ),
        consequence=(
            "The file is right, for other code: compare it before anything is re-estimated, which "
            "would only hide it."
        ),
        fix=(
            "load the file into the code that was trained: compare eps, activations, padding, "
            "resizing and pooling with it"
        ),
        evidence=(
            Evidence("largest distance with this code", found.before, found.after),
            Evidence("function that fits", found.words),
        ),
    )


def _where(found: OtherCode) -> str:
    if not found.last_right:
        return f"From {place(found.first_wrong)} on, the first norm, statistics do not fit the data"
    return (
        f"Up to {place(found.last_right)} the norms fit their statistics; from "
        f"{place(found.first_wrong)} on they do not"
    )


def _between(found: OtherCode) -> str:
    return ", although nothing but code lies between" if found.last_right else ""


RULE = Rule(
    code="NC407",
    name="other-code",
    summary="the statistics are right for other code: eps, activation or borders",
    severity=Severity.ERROR,
    need=Need.DATA,
    page=__doc__ or "",
    check=check,
)
