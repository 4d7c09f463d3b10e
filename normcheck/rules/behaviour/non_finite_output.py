"""NaN or infinity in what the model gives in eval mode.

## What it does
Looks for values that are not finite in the outputs, of all your samples where you give data, and
names the first operator that made one. Infinities written on purpose, as masks of attention are,
are passed over on the way.

## Why is this bad?
Such an output decides nothing: `argmax` of NaN picks a class all the same.

## How severe
An error on the user's data. On made-up input a warning where a normalization layer makes it, else
info: a logarithm of negative noise says nothing about the model. Where statistics in the file are
not finite or negative, the rule on that (NC104, NC105) reports the cause and this one is silent.

## What to do
Look at the operator that is named: a division by a standard deviation of 0, an overflow in half
precision, a logarithm of 0. Where the data themselves hold NaN or infinity, that is said instead:
take these samples out, or fill what is missing.
"""

from collections.abc import Iterator

from normcheck.findings import Evidence, Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject, impossible_statistics, mechanics_of, place
from normcheck.wording import percent, plural


def check(subject: Subject) -> Iterator[Finding]:
    """One finding, with the first operator to blame."""
    seen = mechanics_of(subject)
    data = subject.run.against_data if subject.run else None
    # The mechanics see a few samples, the data are all of them.
    lost = seen.not_finite or (data.not_finite if data else 0.0)
    if not lost or subject.run is None or impossible_statistics(subject):
        return
    fed = subject.run.fed
    share = f"{percent(lost)} of the output values are not finite."
    evidence = (Evidence("share of values not finite", lost, 0.0),)
    if fed.not_finite:
        of_all = f"{fed.not_finite:,} of {plural(fed.samples, 'sample')} of {fed.source}"
        yield RULE.finding(
            title="the data hold NaN or infinity, and so do the outputs",
            detail=f"{of_all} {'hold' if fed.not_finite > 1 else 'holds'} such values. {share}",
            consequence="Nothing else that these samples go into can be judged.",
            fix="take these samples out of the data, or fill what is missing, and scan again",
            evidence=evidence,
        )
        return
    blame = seen.not_finite_blame
    in_norm = blame is not None and any(n.path == blame.path for n in subject.layers)
    severity = Severity.ERROR if fed.real else (Severity.WARNING if in_norm else Severity.INFO)
    where = f" The first comes from {blame.op} in {place(blame.path)}." if blame else ""
    yield RULE.finding(
        severity=severity,
        layers=[blame.path] if blame else (),
        title="eval mode gives NaN or infinity",
        detail=f"{share}{where}",
        consequence="These outputs decide nothing, though argmax picks a class all the same.",
        fix="look there for a variance of 0, an overflow in half precision, or a logarithm of 0",
        evidence=evidence,
    )


RULE = Rule(
    code="NC310",
    name="non-finite-output",
    summary="NaN or infinity in the outputs of eval mode",
    severity=Severity.ERROR,
    need=Need.RUN,
    page=__doc__ or "",
    check=check,
)
