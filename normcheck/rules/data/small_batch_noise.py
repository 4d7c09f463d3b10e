"""Batch statistics taken over too few independent values.

## What it does
Estimates how many independent values a batch gives to each mean: the batch size divided by the
share of a channel's variance that lies between samples. Pixels of one image are not independent,
so a batch of 8 images may give 11 values or 800. The layer with the fewest counts.

## Why is this bad?
With fewer than 8 effective values the batch mean and variance are noise, in training and in the
running statistics. BatchNorm is known to fail there; LayerNorm and GroupNorm do not use the batch.

## How severe
A warning where `--batch-size` says how the model is trained; info where the size is only the
loader's, for validation often runs with other batches than training. The report shows how far
outputs scatter at batches of 1 to 32.

## What to do
Larger batches, SyncBatchNorm over several GPUs, or GroupNorm or LayerNorm.
"""

from collections.abc import Iterator

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import number, percent

_FEWEST = 8.0
"""Effective values per channel: below, BatchNorm is known to be noisy (Wu & He, 2018)."""


def check(subject: Subject) -> Iterator[Finding]:
    """One finding, for the batch size that is used."""
    run = subject.run
    data = run.against_data if run else None
    if run is None or data is None or not data.noise:
        return
    size = run.fed.batch_size
    per_sample = data.noise[0].effective / data.noise[0].batch_size
    effective = size * per_sample
    if effective >= _FEWEST:
        return
    at = next((n for n in data.noise if n.batch_size >= size), data.noise[-1])
    scatter = (
        f" At batches of {at.batch_size} outputs scatter by {percent(at.difference)}."
        if at.difference is not None
        else ""
    )
    yield RULE.finding(
        severity=Severity.WARNING if run.fed.batch_size_given else Severity.INFO,
        confidence=Confidence.MEDIUM,
        title=f"batches of {size} give {number(effective)} independent values per channel",
        detail=f"Fewer than {_FEWEST:g} at the layer that has the fewest.{scatter}",
        consequence=(
            "Trained with such batches, BatchNorm normalises by noise; eval mode then differs "
            "from what was trained."
        ),
        fix="train with larger batches or SyncBatchNorm, or use GroupNorm or LayerNorm",
        evidence=(Evidence("effective values per channel", effective, _FEWEST, size),),
    )


RULE = Rule(
    code="NC403",
    name="small-batch-noise",
    summary="too few values per channel at the training batch size",
    severity=Severity.WARNING,
    need=Need.DATA,
    page=__doc__ or "",
    check=check,
)
