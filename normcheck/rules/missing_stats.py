"""Running statistics that should be there and are not.

## What it does
Reports
- a layer with a running mean but no running variance, or the other way round;
- layers without statistics among convolutions, when others of the same name have them;
- a file of parameters only: layers that call themselves batch norms among convolutions,
  none of which has statistics.

## Why is this bad?
Loading such a file with `strict=False` leaves the missing buffers at whatever the model was
built with, which is 0 and 1, and eval mode does not normalise. `dict(named_parameters())`
and filters on `requires_grad` write such files: buffers are not parameters.

## Stays silent
- for a LayerNorm or GroupNorm that happens to be called `bn1`: a state dict's metadata tells,
  and without it the layers around must be convolutions;
- for BatchNorm built with `track_running_stats=False`, where metadata or flags show it.

## What to do
Save `model.state_dict()`, which includes buffers, from the trained model. Where that model
is gone, re-estimate the statistics on training data.

## Example
    torch.save(dict(model.named_parameters()), "model.pt")  # no buffers
"""

import re
from collections import defaultdict
from collections.abc import Iterator

from normcheck.findings import Confidence, Finding, Severity
from normcheck.norms.kinds import Family
from normcheck.norms.layer import NormLayer
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import plural


def check(subject: Subject) -> Iterator[Finding]:
    """Halves of a pair, odd ones out among siblings, and files of parameters only."""
    halves = [
        n
        for n in subject.layers
        if (n.running_mean is None) != (n.running_var is None) and not n.unread
    ]
    if halves:
        yield _halves(halves)
    if subject.anatomy.has_modules:
        return  # a module says itself what it tracks: inconsistent-tracking-flag
    without = [n for n in subject.layers if _could_track(n)]
    with_statistics = [n for n in subject.layers if n.has_statistics]
    patterns = {_NUMBER.sub("#", n.path) for n in with_statistics}
    names = {_last_name(n.path) for n in with_statistics}
    same = [n for n in without if _NUMBER.sub("#", n.path) in patterns]
    alike = [n for n in without if n not in same and _last_name(n.path) in names]
    if same:
        yield _missing(
            same,
            f"{plural(len(with_statistics), 'layer')} of the same names in other blocks have them.",
            Confidence.HIGH,
            "same names",
        )
    if alike:
        yield _missing(
            alike,
            f"{plural(len(with_statistics), 'layer')} with the same last name have them, but these "
            "could also be norms of another kind.",
            Confidence.MEDIUM,
            "same last name",
        )
    batch = [n for n in without if n.kind.family is Family.BATCH and n.norm_base is None]
    if batch and not with_statistics:
        yield _missing(
            batch,
            "No layer of the file has statistics: it may hold parameters only, or norms of "
            "another kind under these names.",
            Confidence.MEDIUM,
            "parameters only",
        )


def _could_track(layer: NormLayer) -> bool:
    """Whether a layer without statistics might be a batch norm, as far as names tell.

    Between linear layers it is a LayerNorm whatever it is called.
    """
    return (
        layer.running_mean is None
        and layer.running_var is None
        and not layer.unread
        and not layer.uninitialised
        and layer.norm_base is not False
        and layer.kind.family in (Family.BATCH, Family.PER_SAMPLE)
    )


_NUMBER = re.compile(r"\d+")


def _last_name(path: str) -> str:
    """The last part of a path that is no number; the whole path where all are."""
    return next((part for part in reversed(path.split(".")) if not part.isdecimal()), path)


def _halves(layers: list[NormLayer]) -> Finding:
    missing: dict[str, int] = defaultdict(int)
    for layer in layers:
        missing["running_var" if layer.running_var is None else "running_mean"] += 1
    what = " and ".join(f"{name} in {count}" for name, count in sorted(missing.items()))
    return RULE.finding(
        layers=layers,
        title=(f"half of the running statistics is missing in {plural(len(layers), 'layer')}"),
        detail=f"Missing: {what}.",
        consequence=(
            "Loading fails, or with strict=False leaves the missing half at 0 or 1, and eval "
            "mode normalises wrongly."
        ),
        fix="save model.state_dict() again from the trained model",
        discriminator="half",
    )


def _missing(
    layers: list[NormLayer], why: str, confidence: Confidence, discriminator: str
) -> Finding:
    return RULE.finding(
        severity=Severity.WARNING if confidence is Confidence.MEDIUM else Severity.ERROR,
        confidence=confidence,
        layers=layers,
        title=(f"no running statistics in {plural(len(layers), 'layer')} that should have them"),
        detail=f"They have weight and bias, but no running_mean and running_var. {why}",
        consequence=(
            "Loaded with strict=False the buffers stay at 0 and 1, and in eval mode these layers "
            "do not normalise."
        ),
        fix="save model.state_dict(), which includes buffers, not named_parameters()",
        discriminator=discriminator,
    )


RULE = Rule(
    code="NC107",
    name="missing-stats",
    summary="running statistics that should be in the file and are not",
    severity=Severity.ERROR,
    need=Need.STATE,
    page=__doc__ or "",
    check=check,
)
