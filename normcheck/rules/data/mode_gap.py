"""Eval mode predicts worse than another mode, and no layer's statistics explain it.

## What it does
Compares the answers on labelled data in eval mode with those under re-estimated statistics and
with those in train mode. Where another mode is significantly better (exact McNemar test at 0.1 %,
since no norm that is off speaks for it as well), and neither the file nor the data convicts a
layer's statistics (NC1 rules, NC401), this rule speaks.

## Why is this bad?
What is deployed is eval mode. Something else than the running statistics separates the modes: a
branch on `self.training`, dropout before a batch norm, a norm written by hand, or statistics that
are off in many channels by less than the data can prove.

## How severe
An error where labels show that answers suffer; a warning where the loss does alone, or where less
than a point of accuracy and a fifth of the wrong answers are lost, which many labels prove, too.

## What to do
Look at the rules on mechanics first (NC203, NC3). Compare with more data.
"""

from collections.abc import Iterator

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.rules.data.meant_input import meant_input
from normcheck.rules.data.skill import sign_test
from normcheck.rules.data_verdict import is_slight, verdict
from normcheck.rules.harm import Harm
from normcheck.rules.harm_by_outputs import significant
from normcheck.rules.rule import Need, Rule, Subject, impossible_statistics
from normcheck.wording import percent, plural


def check(subject: Subject) -> Iterator[Finding]:
    """One finding at most, on the outputs alone."""
    run = subject.run
    data = run.against_data if run else None
    if run is None or data is None or impossible_statistics(subject):
        return
    judged = verdict(run)
    if meant_input(data) is not None:
        return  # unfamiliar-input names it: on the input that was meant all norms fit
    if judged is not None and judged.off:
        return  # the layers are known, NC401 or a rule on the file names them
    if judged is not None and judged.harm in (Harm.PROVEN, Harm.SHOWN):
        severity, _ = judged.severity
        first = data.closings[0] if data.closings else None
        yield RULE.finding(
            severity=severity,
            confidence=Confidence.MEDIUM,
            layers=[first.path] if first and first.share >= 0.3 else (),
            title="eval mode predicts worse than re-estimated statistics do",
            detail=f"{judged.text} No single layer lies provably outside the data.",
            consequence="Predictions in eval mode are worse than the weights can do.",
            fix="re-estimate the statistics on training data, and check with more samples",
            discriminator="re-estimated",
        )
        return
    train, stored = data.regime("train"), data.regime("eval")
    if train is None or stored is None or train.accuracy is None or stored.accuracy is None:
        return
    healed, harmed = data.train_healed or 0, data.train_harmed or 0
    if healed <= harmed or sign_test(healed, harmed) >= significant(data):
        return
    slight = is_slight(stored.accuracy, train.accuracy)
    yield RULE.finding(
        severity=Severity.WARNING if slight else Severity.ERROR,
        title="train mode predicts better than eval mode",
        detail=(
            f"On {plural(train.samples, 'labelled sample')} accuracy is {percent(stored.accuracy)} "
            f"in eval mode and {percent(train.accuracy)} in train mode; re-estimated statistics "
            "do not explain it."
        ),
        consequence="What is deployed is eval mode, and it is not what was trained.",
        fix="look for code that asks self.training, and for norms written by hand",
        evidence=(
            Evidence("accuracy in eval mode", stored.accuracy, train.accuracy, train.samples),
        ),
        discriminator="train",
    )


RULE = Rule(
    code="NC402",
    name="mode-gap",
    summary="predictions are better in another mode than eval",
    severity=Severity.ERROR,
    need=Need.DATA,
    page=__doc__ or "",
    check=check,
)
