"""Running statistics that differ between the processes of a run.

## What it does
While `normcheck.guard` watches a training loop in a process group, the processes leave the averages
of their statistics in the group's store before a forward: at the 8th step, then ever more rarely.
The first process compares them. Nothing waits for another process.

## Why is this bad?
Only one process writes the checkpoint, and its statistics are those of its own share of the data.
The model that is evaluated in training is another one in each process; none is that of all data.

## How severe
A warning: the shares of the data are most often alike.

## Stays silent
`SyncBatchNorm`, and `DistributedDataParallel` as it is by default: it sends the buffers of the
first process to all others before each forward. (They hold the first process's data only; that is
usual.)

## What to do
`nn.SyncBatchNorm.convert_sync_batchnorm(model)`, or `broadcast_buffers=True`. FSDP does
not synchronise buffers. `normcheck.recalibrate(model, data)` in all processes gives the statistics
of all data.
"""

from collections.abc import Iterator

from normcheck.findings import Evidence, Finding, Severity
from normcheck.rules.rule import CannotTell, Need, Rule, Subject, training_of
from normcheck.wording import number, plural


def check(subject: Subject) -> Iterator[Finding]:
    """One finding for all layers."""
    from normcheck.live.training_record import RanksApart  # no scan has any

    record = training_of(subject)
    if record.ranks < 2:
        raise CannotTell("the training has one process")
    for seen in record.of(RanksApart)[:1]:
        yield RULE.finding(
            title=f"running statistics differ between {plural(seen.ranks, 'process')}",
            detail=(
                f"At step {seen.step:,} the average running mean of a layer lies up to "
                f"{number(seen.apart)} standard deviations apart, before a forward."
            ),
            consequence=(
                "The checkpoint gets the statistics of the process that writes it, from its share "
                "of the data."
            ),
            fix=(
                "use SyncBatchNorm or broadcast_buffers=True; or normcheck.recalibrate(model, "
                "data) in all processes before saving"
            ),
            layers=seen.layers,
            evidence=(Evidence("standard deviations apart", seen.apart),),
        )


RULE = Rule(
    code="NC706",
    name="stats-differ-between-ranks",
    summary="statistics that differ between processes",
    severity=Severity.WARNING,
    need=Need.TRAINING,
    page=__doc__ or "",
    check=check,
)
