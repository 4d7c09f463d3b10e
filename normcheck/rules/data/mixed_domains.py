"""The data fall into two groups that the first norm sees far apart.

## What it does
Takes mean and variance of each sample at the first batch norm, and cuts the samples in two where
they are best separated. Samples of one population have a separation (Ashman's D) near 3.

## Why does it matter?
One batch norm then holds the statistics of a mixture that fits neither group: two sensors, day and
night, or half of the files scaled to 0 to 1 and the other half to 0 to 255.

## How severe
Info from a separation of 8 on: the groups may be what the data are.

## What to do
Check that all samples go through the same preprocessing. For real domains: statistics of their own
for each, or a norm that uses the sample alone.
"""

from collections.abc import Iterator

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import number

_APART = 8.0
"""Separation in standard deviations within the groups; one normal population has 2.7."""


def check(subject: Subject) -> Iterator[Finding]:
    """One finding on the data."""
    data = subject.run.against_data if subject.run else None
    if data is None or data.domains is None or data.domains < _APART:
        return
    first = data.drifts[:1]
    yield RULE.finding(
        confidence=Confidence.MEDIUM,
        layers=[drift.path for drift in first],
        title="the data fall into two groups",
        detail=(
            f"At the first norm two groups of samples lie {number(data.domains)} standard "
            "deviations apart; one population would give about 3."
        ),
        consequence="One set of running statistics is a mixture that fits neither group.",
        fix="check that all samples go through the same preprocessing",
        evidence=(Evidence("separation of the groups", data.domains, _APART),),
    )


RULE = Rule(
    code="NC405",
    name="mixed-domains",
    summary="two populations of samples under one norm",
    severity=Severity.INFO,
    need=Need.DATA,
    page=__doc__ or "",
    check=check,
)
