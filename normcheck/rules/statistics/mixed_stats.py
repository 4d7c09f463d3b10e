"""One batch norm behind several weights.

## What it does
Finds batch norms with running statistics that a file holds under several names, each right behind
weights of its own: one module, built once and put into several places.

## Why is this bad?
There is one set of running statistics, and training updates it with the values of every place. It
is a mixture that fits none of them: in train mode each place is normalised by its own batch, in
eval mode all of them by the mixture. γ and β are shared as well. `num_batches_tracked` counts each
place, so that it grows several times a step.

## How severe
Info: how far the places differ is not in the file. A scan with `--model` and `--data` compares
what each is given (`shared-norm`), and outputs under both modes.

## Stays silent
- where a whole block is registered under two names, weights and norm: that is one place;
- for norms without running statistics, which share γ and β only;
- in formats where sharing leaves no trace, as each name has tensors of its own (safetensors).

## What to do
Build a batch norm for each place. A model that is trained already can be kept as it is where
training ended in eval mode: then its weights know the mixture.

## Example
    norm = nn.BatchNorm2d(32)  # one for both convolutions
    nn.Sequential(nn.Conv2d(3, 32, 3), norm, nn.ReLU(), nn.Conv2d(32, 32, 3), norm, nn.ReLU())
"""

from collections.abc import Iterator

from normcheck.findings import Evidence, Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import fold, plural


def check(subject: Subject) -> Iterator[Finding]:
    """All such norms in one finding."""
    served = subject.anatomy.places_served
    shared = [n for n in subject.batch_norms() if n.has_statistics and n.path in served]
    if not shared:
        return
    most = max(len(served[n.path]) for n in shared)
    first = shared[0]
    yield RULE.finding(
        layers=shared,
        title=f"{plural(len(shared), 'batch norm')} {'stands' if len(shared) == 1 else 'stand'} "
        "behind several weights each",
        detail=(
            f"One module under several names: {first.path or 'the norm'} is right behind "
            f"{fold(served[first.path])}. Its running statistics are a mixture of what these make."
        ),
        consequence=(
            "In train mode each place is normalised by its own batch, in eval mode all by the "
            "mixture. How far they are apart, a run tells."
        ),
        fix="build a batch norm for each place; scan with --model and --data to see the harm",
        evidence=(Evidence("places of one norm", float(most), 1.0, len(shared)),),
    )


RULE = Rule(
    code="NC116",
    name="mixed-stats",
    summary="one batch norm behind several weights",
    severity=Severity.INFO,
    need=Need.STATE,
    page=__doc__ or "",
    check=check,
)
