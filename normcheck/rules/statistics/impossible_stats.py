"""Running statistics that no training writes.

## What it does
Looks for whole layers whose values cannot come from batches, whatever the data are:
- every mean exactly 0 beside variances that are not 1, or every variance exactly 1 beside means
  that are not 0: one of the two was reset, or never copied;
- mean and variance exactly 0 in every channel, in most layers or where no batch was counted:
  buffers that were made empty and never filled;
- the same, and γ and β 0 as well, in the whole model: a file that was written before its values,
  as `torch.serialization.skip_data` and sparse copies leave it;
- bits of something else: variances that are all denormal numbers of random bits, as memory
  holds before anything is written to it.

## Why is this bad?
In eval mode a mean of 0 does not centre and a variance of 1 does not scale. A variance of 0
multiplies by 1/sqrt(eps), which is 316 at the default. Nothing fails, predictions are wrong.

## How severe
An error: values of this kind have no harmless reading.

## Stays silent
- for dead channels, and for single layers of them: a channel without input converges to a
  variance of a few times 1.4e-45, or to 0 where such numbers are rounded away, while its
  neighbours live (`collapsed-variance`);
- for layers whose γ is 0 throughout, which let nothing through anyway;
- for 0 and 1 together, which are `never-updated-stats` or `reset-stats`;
- where no batch count is stored and the means are 0: imports of normalizations that do not
  centre look like that;
- in layers of fewer than four channels.

## What to do
Take the buffers from the checkpoint that they came from, or re-estimate them on training data:
`normcheck fix --model … --data …`. A file without values has to be written again.

## Example
    for name, buffer in model.named_buffers():
        if "running_mean" in name:
            buffer.zero_()  # but not the variances, and the counter goes on
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.layer import NormLayer
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import number, plural

FEWEST_CHANNELS = 4
"""Below these, a chance of equal values is no proof."""
MOST_LAYERS = 0.5
"""Share of the layers from which layers of zeros are no dead ones."""
SMALLEST_NORMAL = 2.0**-126
"""The smallest float32 that is not denormal."""
DEAD = 1e-42
"""Variances of dead channels end below it: at 1/(2m) times 1.4e-45, for m of 0.001 or more."""


@lazy_dataclass()
class Slip:
    """One way in which values cannot be statistics."""

    key: str
    shows: Callable[[NormLayer], bool]
    title: str
    detail: str
    consequence: str


def _means_zero(layer: NormLayer) -> bool:
    mean, variance = layer.running_mean, layer.running_var
    if mean is None or variance is None or layer.batches is None:
        return False
    return mean.all_are(0.0) and not variance.all_are(1.0) and not variance.all_are(0.0)


def _variances_one(layer: NormLayer) -> bool:
    mean, variance = layer.running_mean, layer.running_var
    if mean is None or variance is None:
        return False
    return variance.all_are(1.0) and not mean.all_are(0.0)


def all_zero(layer: NormLayer) -> bool:
    """Whether mean and variance are exactly 0 in every channel."""
    mean, variance = layer.running_mean, layer.running_var
    return (
        mean is not None
        and variance is not None
        and mean.size > 0
        and mean.all_are(0.0)
        and variance.all_are(0.0)
    )


def _memory(layer: NormLayer) -> bool:
    variance = layer.running_var
    if variance is None or variance.size < FEWEST_CHANNELS or variance.dtype.itemsize < 4:
        return False
    smallest, largest = variance.ordered[0], variance.ordered[-1]
    if not (smallest > -SMALLEST_NORMAL and largest < SMALLEST_NORMAL):
        return False
    sizes = np.abs(variance.numbers)
    ordered = np.sort(sizes)
    return bool(ordered[sizes.size // 2] > DEAD) and np.unique(sizes).size > sizes.size // 2


SLIPS = (
    Slip(
        "means zero",
        _means_zero,
        "every running_mean is 0",
        "running_mean is exactly 0 in all {channels}, while running_var was collected. A batch has "
        "no mean of exactly 0 in every channel: the means were reset, or never copied.",
        "In eval mode these layers do not centre their input.",
    ),
    Slip(
        "variances one",
        _variances_one,
        "every running_var is 1",
        "running_var is exactly 1 in all {channels}, while running_mean was collected. A batch has "
        "no variance of exactly 1 in every channel: the variances were reset, or never copied.",
        "In eval mode these layers do not scale their input.",
    ),
    Slip(
        "memory",
        _memory,
        "running_var holds what was in memory before",
        "All {channels} are denormal numbers of random bits, which neither batches nor dead "
        "channels leave: the buffers were made empty and never filled.",
        "In eval mode these layers multiply their input by 1/sqrt(eps).",
    ),
)
_NEVER_FILLED = Slip(
    "never filled",
    all_zero,
    "running statistics were never filled",
    "running_mean and running_var are exactly 0 in all {channels}. Dead channels are single ones "
    "among living; these buffers were made empty, or zeroed.",
    "In eval mode these layers multiply their input by 1/sqrt(eps), which is 316 at the default.",
)
_NO_VALUES = Slip(
    "no values",
    all_zero,
    "zeros stand in place of values",
    "Statistics, γ and β are exactly 0 in all {channels}: the file was written without its values "
    "(torch.serialization.skip_data, a sparse copy, an interrupted download).",
    "A model with these numbers gives one output, whatever comes in.",
)


def check(subject: Subject) -> Iterator[Finding]:
    """A finding for each kind of slip, with the layers that show it."""
    stored = [n for n in subject.with_statistics() if (n.features or 0) >= FEWEST_CHANNELS]
    for slip in SLIPS:
        hit = [layer for layer in stored if slip.shows(layer)]
        if hit:
            yield _finding(slip, hit, Confidence.HIGH)
    empty = [layer for layer in stored if all_zero(layer)]
    if empty and len(empty) == len(stored) and all(_affine_zero(n) for n in empty):
        yield _finding(_NO_VALUES, empty, Confidence.HIGH)
        return
    # A scale of 0 lets nothing through, whatever is divided by: pruned, or dead on purpose.
    empty = [n for n in empty if n.weight is None or not n.weight.all_are(0.0)]
    uncounted = [n for n in empty if n.batches is not None and n.batches.value == 0]
    ran = any(n.batches is not None and n.batches.value > 0 for n in stored)
    if len(empty) > MOST_LAYERS * len(stored):
        yield _finding(_NEVER_FILLED, empty, Confidence.HIGH)
    elif uncounted and ran:
        # Layers that ran count; these did not, and still are at no initial value.
        yield _finding(_NEVER_FILLED, uncounted, Confidence.MEDIUM)


def _affine_zero(layer: NormLayer) -> bool:
    parts = [part for part in (layer.weight, layer.bias) if part is not None]
    return bool(parts) and all(part.all_are(0.0) for part in parts)


def _finding(slip: Slip, layers: Sequence[NormLayer], confidence: Confidence) -> Finding:
    channels = sum(n.features or 0 for n in layers)
    mean = [n.running_mean.numbers for n in layers if n.running_mean is not None]
    variance = [n.running_var.numbers for n in layers if n.running_var is not None]
    return RULE.finding(
        confidence=confidence,
        layers=layers,
        title=f"{slip.title} in {plural(len(layers), 'batch norm layer')}",
        detail=slip.detail.format(channels=plural(channels, "channel")),
        consequence=slip.consequence,
        fix=(
            "take the buffers from the checkpoint that they came from, or re-estimate them on "
            "training data (normcheck fix --model … --data …)"
            if slip is not _NO_VALUES
            else "write the file again, from the model with its values"
        ),
        evidence=(
            Evidence("largest |running_mean|", _largest(mean), None, channels),
            Evidence("largest running_var", _largest(variance), number(1.0), channels),
        ),
        discriminator=slip.key,
    )


def _largest(parts: Sequence[np.typing.NDArray[np.float64]]) -> float:
    # A NaN in one layer must not hide the others.
    return max(float(np.nanmax(np.abs(part), initial=0.0)) for part in parts)


RULE = Rule(
    code="NC113",
    name="impossible-stats",
    summary="running statistics that no training writes",
    severity=Severity.ERROR,
    need=Need.STATE,
    page=__doc__ or "",
    check=check,
)
