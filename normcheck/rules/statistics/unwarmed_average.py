"""Averaged weights that are still mostly the initial ones.

## What it does
Compares the copies of a model in one file: raw beside EMA, student beside teacher, `state_dict`
beside `current_model_state`. An exponential average that began at the initial weights holds
`d^n` of them after n steps with decay d, and norms tell how much that is: their initial values
are known (γ 1, β 0, means 0, variances 1). Copies whose values are all one share of the other's
are reported, with that share.

## Why is this bad?
Decays of 0.999 or 0.9999 are made for hundreds of thousands of steps. In a training of a thousand
the average is 37 % or 90 % random initial weights: it predicts far worse than the raw model,
while nothing is wrong with its code. Re-estimating statistics does not help, as the weights
themselves are the wrong ones.

## How severe
A warning from a tenth of initial values where statistics were averaged along, and from a half
where γ and β alone tell it, as an average that lags behind a growing model looks like the rest.
Info in the first hundred steps, when no average can be warm.

## Stays silent
- for averages that had time or a warm-up (`min(d, (1 + n)/(10 + n))`): their values are those of
  the raw model but for some per cent;
- for averages of a model that still moved, which lag behind it: no variance lies below what is
  left of the initial 1, and theirs do;
- for earlier states of a model (`best` beside `last`): their variances are their own, and γ and β
  of several layers do not shrink by one share;
- for a state of the first batches, whose own count explains it (`under-warmed-stats`); a count
  of 1 in a copy that is called an average does not, as averages of integers are truncated;
- for independent models of one architecture, and for two that are the same;
- for a copy that is exactly initial: an average that has not begun (`never-updated-stats` says it);
- where only γ and β speak, for copies that are not called an average (`ema`, `averaged`,
  `teacher`, `shadow`, `n_averaged`).

## What to do
Use the raw copy. For the next training take a decay that fits its length (`0.01^(1/n)` leaves 1 %
after n steps), or let it warm up: `d = min(d, (1 + n)/(10 + n))`, as `timm`, `diffusers` and
TensorFlow do.

## Example
    ema = timm.utils.ModelEmaV3(model, decay=0.9999)
    for step in range(600): ...; ema.update(model)
    torch.save({"model": model.state_dict(), "ema": ema.module.state_dict()}, path)  # 94 % initial
"""

import re
from collections.abc import Iterator, Sequence
from math import floor, log10

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.lazy_pattern import lazy_pattern
from normcheck.norms.anatomy import Anatomy
from normcheck.rules.evidence.initial_share import InitialShare, initial_share
from normcheck.rules.evidence.residue import residue
from normcheck.rules.option import Option
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.saved.clocks import Unit, telling
from normcheck.wording import percent

MAX_SHARE = Option(
    "max-initial-share",
    0.1,
    "share",
    "share of the initial values above which an average is reported",
    most=1.0,
)
"""Ordinary averages of models that still move were measured at 0.02 to 0.05."""
LAGGING = 0.5
"""The same where γ and β alone tell it: of values that grow evenly, an average over x times its
time constant lacks (1 - e^-x)/x, so half of them is still a fifth of initial weights."""
SAME = 0.1
"""How near the share lies to what the copy's own batch count leaves."""
EARLY = 100
"""Steps up to which every average of a usual decay is cold."""
_AVERAGE = lazy_pattern(r"ema|swa|averag|shadow|teacher|polyak|target|slow", re.IGNORECASE)
_RAW = lazy_pattern(r"current_model_state|student|online|raw", re.IGNORECASE)


def check(subject: Subject) -> Iterator[Finding]:
    """A copy against every other that has the same norms."""
    for other in subject.siblings:
        if _same_norms(subject.anatomy, other):
            found = initial_share(subject.layers, other.layers)
            if found is None or found.share <= _allowed(subject, other, found):
                continue
            if not _counted_so(subject, found):
                yield _finding(subject, other, found)
                return


def _counted_so(subject: Subject, found: InitialShare) -> bool:
    """Whether so much is initial because so few batches were counted: a state of the beginning.

    Not by a count of 1 in a copy that is called an average: a running average of integers is
    truncated, and stays there.
    """
    counts = [n.batches.value for n in subject.layers if n.batches is not None]
    if _is_named(subject.anatomy) and max(counts, default=0) <= 1:
        return False
    left = [r for layer in subject.layers if (r := residue(layer)) is not None]
    return bool(left) and abs(max(left) - found.share) < SAME


def _same_norms(one: Anatomy, other: Anatomy) -> bool:
    return 0 < len(one.layers) == len(other.layers) and all(
        a.features == b.features
        and a.kind.family is b.kind.family
        and a.path.rpartition(".")[2] == b.path.rpartition(".")[2]
        for a, b in zip(one.layers, other.layers, strict=True)
    )


def _allowed(subject: Subject, other: Anatomy, found: InitialShare) -> float:
    most = subject.value(MAX_SHARE)
    if found.by_statistics:
        return most
    named = _is_named(subject.anatomy) or _RAW.search(other.where)
    return max(most, LAGGING) if named else 1.0


def _is_named(copy: Anatomy) -> bool:
    """Whether a copy is called an average."""
    return copy.averages is not None or bool(_AVERAGE.search(copy.where))


def _finding(subject: Subject, other: Anatomy, found: InitialShare) -> Finding:
    here = f"the copy under '{subject.anatomy.where}'" if subject.anatomy.where else "this copy"
    there = f"'{other.where}'" if other.where else "the other copy"
    steps = _steps(subject, other)
    share = percent(found.share)
    detail = (
        f"Its {_listed(found.told_by)} are the initial values by {share} and "
        f"those of {there} by the rest, in {found.layers} of {len(subject.layers)} norms."
    )
    fix = f"use {there}; for the next training take a shorter decay, or one that warms up"
    if steps:
        decay = found.share ** (1 / steps)
        fits = 0.01 ** (1 / steps)
        detail += f" After {steps:,} steps that is a decay of about {_decay(decay)}."
        fix = (
            f"use {there}; for a training of {steps:,} steps take a decay of {_decay(fits)} at "
            "most, which leaves 1 %, or one that warms up: min(decay, (1 + n)/(10 + n))"
        )
    return RULE.finding(
        severity=Severity.INFO if steps and steps <= EARLY else Severity.WARNING,
        confidence=Confidence.HIGH if found.by_statistics else Confidence.MEDIUM,
        layers=subject.layers,
        title=f"{here} is an average that never warmed up: {share} of it is the initial values",
        detail=detail,
        consequence=(
            "All its weights are mixed with random initial ones, so it predicts far worse than the "
            "raw model. Re-estimating its statistics does not help."
        ),
        fix=fix,
        evidence=(
            Evidence(
                "share of initial values", found.share, _allowed(subject, other, found),
                found.layers,
            ),
        ),
    )  # fmt: skip


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def _decay(value: float) -> str:
    """With as many digits as tell it from 1, downward."""
    places = 2 if value < 0.9 else 2 + int(-log10(max(1 - value, 1e-12)))
    return f"{floor(value * 10**places + 0.1) / 10**places:g}"


def _steps(subject: Subject, other: Anatomy) -> int | None:
    """How many steps the average can have taken: by a clock, else by what the raw copy counted."""
    clock = telling(c for c in subject.clocks if c.unit in (Unit.BATCHES, Unit.STEPS))
    if clock is not None:
        return clock.value
    counts = [int(n.batches.value) for n in other.layers if n.batches and n.batches.whole]
    return max(counts, default=0) or None


RULE = Rule(
    code="NC115",
    name="unwarmed-average",
    summary="averaged weights that are still mostly the initial ones",
    severity=Severity.WARNING,
    need=Need.STATE,
    page=__doc__ or "",
    check=check,
    options=(MAX_SHARE,),
)
