"""Decisions on random images that hang on the stored statistics alone.

## What it does
On made-up input of images it also runs smooth random ones (Gaussian, neighbouring values
correlated, fitted to what the first norm has stored where that allows), once with the stored
running statistics and once with statistics re-estimated on these images, and counts the decisions
that change. No data and no labels are needed.

## Why does it matter?
Where statistics are lost or belong to other weights, hardly a decision stays. It is a hint at
severe damage in models of which the file alone tells nothing, and orders checkpoints of one
architecture by their damage (`normcheck diff --run` shows both).

## How severe
Info: random images are near no class, so that decisions change in healthy networks too, and
weights that were trained with the stored statistics (frozen from the start, in eval mode) look the
same. It is a reason to give data, no verdict. Of 90 small networks on three sets of images none
changed so many decisions as they were (0.78 at most, 0.57 in nine of ten); with the statistics of
another seed 62 % of them did, with those of all but the first norm lost 49 %.

## Stays silent
On data, which tell more. Where fewer than 0.8 of the decisions change. Where all statistics are at
0 and 1, of which other rules speak. Where most norms stand behind no convolution over an image, and
where outputs decide nothing.

## What to do
Scan with `--data`: a few dozen samples decide it, with labels best.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import percent

if TYPE_CHECKING:
    from collections.abc import Iterator

SEVERE = 0.8
"""Share of the decisions. Healthy networks of 13 styles on three sets of images stay below."""


def check(subject: Subject) -> Iterator[Finding]:
    """One finding on the outputs."""
    found = subject.run.on_fields if subject.run else None
    if found is None or found.changed < SEVERE:
        return
    tracked = [layer for layer in subject.anatomy.layers if layer.uses_statistics]
    if all(layer.at_initial_values for layer in tracked):
        return
    fitted = f", fitted to what {found.fitted_to} has stored" if found.fitted_to else ""
    yield RULE.finding(
        confidence=Confidence.LOW,
        title=f"{percent(found.changed)} of the decisions on random images hang on the statistics",
        detail=(
            f"On {found.samples} smooth random images ({found.shape}{fitted}) so many decisions "
            "change with statistics re-estimated on these images; of healthy networks 12 to 78 % "
            "do."
        ),
        consequence="The stored statistics may be of other weights, or lost; weights that were "
        "trained with them as they are (frozen, in eval mode) look the same.",
        fix="give data, best with labels: --data decides it",
        evidence=(
            Evidence(
                "share of the decisions on random images that change",
                found.changed,
                SEVERE,
                found.samples,
            ),
        ),
    )


RULE = Rule(
    code="NC312",
    name="doubtful-decisions",
    summary="decisions on random images hang on the stored statistics",
    severity=Severity.INFO,
    need=Need.RUN,
    page=__doc__ or "",
    check=check,
)
