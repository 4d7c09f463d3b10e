"""Ranks of one training step that do not hold the same model.

## What it does
Compares checkpoints that several processes of a distributed training wrote at the same step:
with `--ranks`, or where two files have equal weights and equal batch counts and yet other
running statistics. Reported is how far the statistics of the ranks lie apart. With `--ranks`,
weights that differ are reported too.

## Why is this bad?
Gradients are averaged over the ranks, so that weights stay equal; running statistics are not.
Each rank collects those of its own shard, with a batch that is smaller than it seems:
- without SyncBatchNorm every rank normalises by its own batch;
- `DistributedDataParallel` copies the buffers of rank 0 before each forward pass, so that ranks
  lie one update apart; with `broadcast_buffers=False` they drift apart for good.

What is evaluated and saved depends on the rank that does it, and where shards differ (sorted
data, one domain a rank) so do predictions.

## How severe
A warning. Info where the means lie less than a hundredth of a standard deviation apart, as one
update since the last broadcast leaves them. An error where the weights of ranks at one step
differ.

## Stays silent
- where statistics agree but for rounding, as SyncBatchNorm leaves them;
- where all that moved went through one exact operation each (`exact-transformation`);
- where counts or optimizer steps differ: these are no ranks of one step.

## What to do
Convert the model with `torch.nn.SyncBatchNorm.convert_sync_batchnorm`, or average the statistics
over the ranks before saving, and keep `broadcast_buffers=True`.

## Example
    model = DistributedDataParallel(net, broadcast_buffers=False)
    ...
    torch.save(net.state_dict(), f"step-{step}-rank-{rank}.pt")
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.rules.between.accused_layers import Accused, accuse
from normcheck.rules.rule import CannotTell, Need, Rule, Subject
from normcheck.wording import number, percent, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from normcheck.compare.movement import Comparison, LayerChange, Step

ROUNDING = 1e-4
"""Standard deviations, and logarithm of a ratio, that the order of additions may cost."""
HARMLESS = 1e-2
"""Standard deviations below which a shift of the means is lost in the noise of any batch. Two
ranks of a small convolutional network with 4 to 128 samples each lay 0.002 to 0.011 apart in
the worst layer where buffers were broadcast, 0.007 to 0.033 where they were not."""
_SMALL_RATIO = 5e-2
"""Logarithm of a variance ratio that goes with it: 5 %."""


def check(subject: Subject) -> Iterator[Finding]:
    """Weights of ranks, then their statistics."""
    comparison = subject.compared
    if not comparison.ranks:
        found = [s for s in comparison.steps if s.same_moment and not comparison.converted]
        apart = accuse(comparison, found, _apart)
        if apart:
            yield _statistics(apart)
        return
    for step in comparison.steps:
        if step.steps_made or step.batches:
            raise CannotTell(
                f"{comparison.between(step)} are not of one step: {_other_moment(step)}; ranks "
                "compare at equal step"
            )
    learned = [step for step in comparison.steps if step.learned]
    apart = accuse(comparison, comparison.steps, _apart)
    if learned:
        # The statistics then belong to other weights, and say nothing more.
        yield _weights(comparison, learned)
    elif apart:
        yield _statistics(apart)


def _other_moment(step: Step) -> str:
    if step.steps_made:
        return f"their optimizers are {plural(abs(step.steps_made), 'step')} apart"
    return f"their layers are {plural(int(abs(step.batches or 0)), 'batch')} apart"


def _apart(step: Step) -> list[LayerChange]:
    changes = [(n, n.mean, n.variance) for n in step.tracked if n.stats_moved]
    return [
        layer
        for layer, mean, variance in changes
        if max(mean.distance if mean else 0.0, variance.distance if variance else 0.0) > ROUNDING
    ]


def _statistics(apart: Accused) -> Finding:
    shift = max(n.mean.distance for n in apart.each if n.mean)
    ratio = max(n.variance.distance for n in apart.each if n.variance)
    small = shift < HARMLESS and ratio < _SMALL_RATIO
    files = {side for step in apart.steps for side in (step.old, step.new)}
    said = (
        "The files are taken as ranks of one step."
        if apart.comparison.ranks
        else "Equal weights and counts are what two ranks of one step have; statistics that were "
        "replaced after training look the same."
    )
    return RULE.finding(
        severity=Severity.INFO if small else Severity.WARNING,
        confidence=Confidence.HIGH if apart.comparison.ranks else Confidence.MEDIUM,
        layers=apart.paths,
        title=f"{plural(len(files), 'rank')} have the same weights and other running statistics",
        detail=(
            f"In {apart.norms} running_mean lies up to {number(shift)} standard deviations apart, "
            f"running_var up to a factor of {number(math.exp(ratio))}. {said}"
        ),
        consequence=(
            "So small a gap is one update after the buffers were broadcast; predictions hardly "
            "depend on the rank that saved."
            if small
            else "Each rank normalises by its own share of the batch, and what the saved model "
            "predicts depends on the rank that saved it."
        ),
        fix=(
            "use SyncBatchNorm (torch.nn.SyncBatchNorm.convert_sync_batchnorm), keep "
            "broadcast_buffers=True, or average the statistics over the ranks before saving"
        ),
        evidence=(
            Evidence(
                "largest shift of running_mean in standard deviations",
                shift,
                HARMLESS,
                len(apart.paths),
            ),
            Evidence("largest ratio of running_var", math.exp(ratio), math.exp(_SMALL_RATIO), None),
        ),
        discriminator="statistics",
    )


def _weights(comparison: Comparison, learned: Sequence[Step]) -> Finding:
    moved = max((step.weights.distance for step in learned if step.weights), default=0.0)
    names = ", ".join(comparison.name(step.new) for step in learned[:4])
    more = " …" if len(learned) > 4 else ""
    tensors = max(step.tensors_moved for step in learned)
    return RULE.finding(
        severity=Severity.ERROR,
        layers=(),
        title="ranks hold different weights",
        detail=(
            f"Against {comparison.name(0)}, {plural(tensors, 'weight tensor')} "
            f"{'differs' if tensors == 1 else 'differ'} in {names}{more}, by up to "
            f"{percent(moved)} of its length."
        ),
        consequence=(
            "Ranks of one step have equal weights where gradients are averaged: these train "
            "different models, or the files hold shards or another step."
        ),
        fix=(
            "see that every parameter is wrapped by DistributedDataParallel and that all ranks "
            "start from one initialisation; compare files of one step, not shards (FSDP)"
        ),
        evidence=(Evidence("relative distance of the weights", moved, 0.0, tensors),),
        discriminator="weights",
    )


RULE = Rule(
    code="NC603",
    name="ranks-disagree",
    summary="ranks of one step that hold different statistics",
    severity=Severity.ERROR,
    need=Need.PAIR,
    page=__doc__ or "",
    check=check,
)
