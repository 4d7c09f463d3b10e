"""Running statistics that should be there and are not.

## What it does
Reports
- a layer with a running mean but no running variance, or the other way round;
- layers without statistics among convolutions, when layers of the same names in other blocks
  have them, or at least layers of the same last name;
- statistics whose names and shapes are in the file, but not their values (meta tensors);
- a file of parameters only: layers that call themselves batch norms among convolutions,
  none of which has statistics.

## Why is this bad?
Loading such a file with `strict=False` leaves the missing buffers at whatever the model was
built with, which is 0 and 1, and eval mode does not normalise. `dict(named_parameters())`
and filters on `requires_grad` write such files: buffers are not parameters.

## How severe
- An error for half of a pair, for values that are not there, and where the same layer of other
  blocks has statistics.
- A warning where several layers share no more than their last name with those that have them.
- Info for a single such layer (the stem of an IBN-Net is an InstanceNorm called `bn1`), and
  beside frozen batch norms, which have statistics without a count and stand beside GroupNorms.
- A file of parameters only is a warning where its tensors are stored as `nn.Parameter`, as
  `named_parameters()` gives them. Otherwise it is info, as a ResNet built with GroupNorm keeps
  the name `bn1`, and so it is where another model of the file has the statistics.

## Stays silent
- for a LayerNorm or GroupNorm that happens to be called `bn1`, where a state dict's metadata
  tells, or where the layers around are linear;
- for layers of an `nn.Sequential`, whose names are places: a GroupNorm at `5` says nothing of
  the BatchNorm at `2`;
- for whole modules, whose flags tell what they track.

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

FEWEST_ALIKE = 2
"""Layers that share a last name with tracked ones, from which it is no coincidence."""


def check(subject: Subject) -> Iterator[Finding]:
    """Halves of a pair, odd ones out among siblings, and files of parameters only."""
    halves = [
        n
        for n in subject.layers
        if (n.running_mean is None) != (n.running_var is None)
        and not n.unread
        and n.kind.family is not Family.CUSTOM  # EvoNorm-B has no mean
    ]
    if halves:
        yield _halves(halves)
    empty = [n for n in subject.layers if _META in map(n.unread.get, _STATISTICS)]
    if empty:
        yield _without_values(empty)
    if subject.anatomy.has_modules:
        return  # a module says itself what it tracks: inconsistent-tracking-flag
    without = [n for n in subject.layers if _could_track(n)]
    if not without:
        return
    with_statistics = [n for n in subject.layers if n.has_statistics]
    patterns = {_block_pattern(n.path) for n in with_statistics}
    names = {_last_name(n.path) for n in with_statistics}
    same = [n for n in without if _block_pattern(n.path) in patterns]
    alike = [n for n in without if n not in same and _last_name(n.path) in names]
    if same:
        yield _missing(
            same,
            f"{plural(len(with_statistics), 'layer')} of the same names in other blocks have them.",
            Severity.ERROR,
            "same names",
        )
    if alike:
        counted = any(n.batches is not None for n in with_statistics)
        several = len(alike) >= FEWEST_ALIKE
        yield _missing(
            alike,
            f"{plural(len(with_statistics), 'layer')} with the same last name "
            f"{'has' if len(with_statistics) == 1 else 'have'} them, but these "
            "could also be norms of another kind.",
            Severity.WARNING if several and counted else Severity.INFO,
            "same last name",
        )
    batch = [n for n in without if n.kind.family is Family.BATCH and n.norm_base is None]
    if batch and not with_statistics:
        yield _parameters_only(subject, batch)


_META = "a meta tensor"
"""What readers note of a tensor that was saved with its shape alone."""
_STATISTICS = ("running_mean", "running_var")


def _without_values(layers: list[NormLayer]) -> Finding:
    return RULE.finding(
        layers=layers,
        title=f"no values in the running statistics of {plural(len(layers), 'layer')}",
        detail=(
            "They were saved from the meta device: names, shapes and types are in the file, "
            "numbers are not."
        ),
        consequence="Whoever loads this gets buffers of whatever the model was built with.",
        fix="save the model after its values were loaded, not the skeleton on the meta device",
        discriminator="no values",
    )


def _parameters_only(subject: Subject, batch: list[NormLayer]) -> Finding:
    paths = {n.path.removeprefix("module.") for n in batch}
    for other in subject.siblings:
        if paths <= {n.path.removeprefix("module.") for n in other.layers if n.has_statistics}:
            why = f"Those of '{other.where}' in the same file have them, as beside an average."
            return _missing(batch, why, Severity.INFO, "parameters only")
    # state_dict() detaches what it gives out; named_parameters() does not.
    parameters = any(n.weight is not None and n.weight.requires_grad for n in batch)
    why = "No layer of the model has statistics: "
    if parameters:
        why += "its tensors are stored as parameters, as named_parameters() gives them."
    else:
        why += "it may hold parameters only, or norms of another kind under these names."
    severity = Severity.WARNING if parameters else Severity.INFO
    return _missing(batch, why, severity, "parameters only")


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
        and (layer.kind.family in (Family.BATCH, Family.PER_SAMPLE) or layer.norm_base is True)
    )


_NUMBER = re.compile(r"\d+")
_SURE = {
    Severity.ERROR: Confidence.HIGH,
    Severity.WARNING: Confidence.MEDIUM,
    Severity.INFO: Confidence.LOW,
}


def _last_name(path: str) -> str:
    """The last part of a path that is no number, with the numbers behind it.

    ``downsample.1`` of ``layer2.0.downsample.1``; the whole path where all parts are numbers.
    """
    parts = path.split(".")
    named = [i for i, part in enumerate(parts) if not part.isdecimal()]
    return ".".join(parts[named[-1] :]) if named else path


def _block_pattern(path: str) -> str:
    """The path without the numbers of its blocks: ``layer#.#.bn2`` of ``layer1.0.bn2``.

    The numbers in the last name stay. They tell layers of one block apart, or places in an
    ``nn.Sequential``, and those may well be norms of two kinds.
    """
    last = _last_name(path)
    return _NUMBER.sub("#", path.removesuffix(last)) + last


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


def _missing(layers: list[NormLayer], why: str, severity: Severity, discriminator: str) -> Finding:
    should = "may have lost" if severity is Severity.INFO else "should have"
    return RULE.finding(
        severity=severity,
        confidence=_SURE[severity],
        layers=layers,
        title=(f"no running statistics in {plural(len(layers), 'layer')} that {should} them"),
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
