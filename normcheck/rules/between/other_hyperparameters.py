"""The same tensors under other hyperparameters.

## What it does
Compares two files layer by layer in what both hold besides tensors: `num_groups`, `eps`, `affine`,
`normalized_shape`, `track_running_stats`, a gain stored as w or as 1 + w, the axis; stride,
padding, dilation and groups of convolutions; activations; `momentum` and the `p` of a dropout. Of
Hugging Face models `config.json` beside the weights tells eps and activation.

## Why is this bad?
A port, a conversion or a library upgrade that keeps every tensor and changes one of these computes
another function: equal state dicts, strict loading, and other outputs. GroupNorm of 4 groups
instead of 8 loads the same weights.

## How severe
An error where the tensors are the same, a warning where they moved too. Info where only training
is affected (`momentum`, dropout's `p`).

## Stays silent
For what one of the files does not hold: a state dict has no eps and no groups. The report says what
was not compared.

## What to do
Build the new model with the old one's values, or train it on. Where the change is on purpose,
ignore this finding.

## Example
    port.norm = nn.GroupNorm(4, 64)   # the source has nn.GroupNorm(8, 64)
    port.load_state_dict(source.state_dict())
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import fold, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from normcheck.compare.hyperparameters import HyperparameterChange


def check(subject: Subject) -> Iterator[Finding]:
    """What eval mode feels as one finding, what only training does as another."""
    comparison = subject.compared
    if comparison.ranks:
        return
    found = comparison.hyperparameters
    same = not comparison.total.learned and not comparison.total.stats_moved
    in_eval = [change for change in found if change.matters_in_eval]
    if in_eval:
        yield RULE.finding(
            severity=Severity.ERROR if same else Severity.WARNING,
            layers=_paths(in_eval),
            title=f"{_layers(in_eval)} otherwise: {_names(in_eval)}",
            detail=_detail(in_eval)
            + (" All tensors that could be compared are the same." if same else ""),
            consequence="With these values the same tensors are another function: outputs differ.",
            fix="build the new model with the old one's values; ignore this where it is on purpose",
            evidence=(Evidence("hyperparameters that differ", float(len(in_eval)), 0.0),),
            discriminator="eval",
        )
    training = [change for change in found if not change.matters_in_eval]
    if training:
        yield RULE.finding(
            severity=Severity.INFO,
            confidence=Confidence.HIGH,
            layers=_paths(training),
            title=f"training will go on under other values: {_names(training)}",
            detail=_detail(training),
            consequence="Eval mode predicts the same; training goes on under other values.",
            fix="check that the change is on purpose",
            discriminator="training",
        )


def _paths(found: Sequence[HyperparameterChange]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(change.path for change in found))


def _layers(found: Sequence[HyperparameterChange]) -> str:
    count = len(_paths(found))
    return f"{plural(count, 'layer')} {'computes' if count == 1 else 'compute'}"


def _names(found: Sequence[HyperparameterChange]) -> str:
    """The commonest changes: ``num_groups 8 → 4``."""
    counts = Counter(map(str, found))
    shown = [text for text, _ in counts.most_common(_SHOWN)]
    more = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _detail(found: Sequence[HyperparameterChange]) -> str:
    each: dict[str, list[str]] = {}
    for change in found:
        each.setdefault(str(change), []).append(change.path)
    parts = [f"{text}: {fold(paths)}." for text, paths in each.items()]
    more = len(parts) - _LISTED
    return " ".join(parts[:_LISTED]) + (f" And {more} other changes." if more > 0 else "")


_SHOWN = 2
_LISTED = 6

RULE = Rule(
    code="NC606",
    name="other-hyperparameters",
    summary="the same layers under another eps, grouping, stride or activation",
    severity=Severity.ERROR,
    need=Need.PAIR,
    page=__doc__ or "",
    check=check,
)
