"""Numbers that one exact operation turned into others.

## What it does
Compares two files tensor by tensor, and names what a conversion did to it: a constant added, a
factor, both; the square, the root, the reciprocal; a matrix turned; channels in another order;
numbers rounded to half precision. Each must hold for every value, up to rounding.

## Why does it matter?
Training moves every channel by another amount. One exact operation in all of them is code: a
conversion that adds 1 to the gains of RMSNorm (stored w, used 1 + w), twice in one part of the
model and once in another; a standard deviation in place of a variance; a factor that was not
divided out. A percentage of movement does not show it.

## How severe
A warning where some layers of a kind went through it and others did not, or through another, and
where running statistics became other quantities. Info where it is the same everywhere and changes
the convention only, for rounding, turned matrices and another order of the channels (a warning
where the weights before the norm kept theirs), and for weights and γ that shrank by a common factor
just below 1: weight decay does that where no gradient arrives.

## Stays silent
For trained weights, and for tensors of fewer than four different values.

## What to do
Look into the conversion for this very operation, and for where it is applied twice or left out.

## Example
    for name in state:
        if name.endswith("norm.weight"):
            state[name] += 1          # and once more in the loader
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import fold, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from normcheck.compare.movement import LayerChange, Step
    from normcheck.compare.transform import Transformation

_NAMES = {"weight": "γ", "bias": "β", "running_mean": "running_mean", "running_var": "running_var"}
_HARMLESS = frozenset({"grid", "permutation", "transposition"})
_DECAY = 0.8
"""Smallest factor that is taken for weight decay: 1 - rate x decay, to the power of the steps."""
_CONVENTION = frozenset({"moved by exactly +1", "moved by exactly -1"})
_UNCHANGED = "unchanged"
_OTHERWISE = "moved otherwise"


def check(subject: Subject) -> Iterator[Finding]:
    """A finding for each part of norms, and one for the other weights."""
    comparison = subject.compared
    if comparison.ranks:
        return
    for part, name in _NAMES.items():
        yield from _of_part(part, name, comparison.total)
    others = comparison.total.transformed
    for text in dict.fromkeys(t.text for _, t in others):
        paths = [path for path, t in others if t.text == text]
        harmless = all(_is_harmless(t) for _, t in others if t.text == text)
        yield RULE.finding(
            severity=Severity.INFO if harmless else Severity.WARNING,
            confidence=Confidence.MEDIUM,
            layers=paths,
            title=f"{plural(len(paths), 'weight tensor')} {_was(paths)} {text}",
            detail=f"{fold(paths)}: every value, up to rounding.",
            consequence="What loads the new file has to use it otherwise than the old one.",
            fix="look into the conversion for this operation",
            discriminator=f"weights {text.partition(' by ')[0]}",
        )


def _of_part(part: str, name: str, step: Step) -> Iterator[Finding]:
    """γ, β, means or variances of all norms that have them."""
    layers = [layer for layer in step.layers if part in layer.parts]
    each = {layer.path: dict(layer.transformed).get(part) for layer in layers}
    exact = {path: t for path, t in each.items() if t is not None}
    grid = [path for path, t in exact.items() if t.sort == "grid"]
    if grid:
        rest = [layer.path for layer in layers if layer.path not in grid]
        texts = {exact[path].text: [p for p in grid if exact[p] == exact[path]] for path in grid}
        yield _finding(name, texts | ({_OTHERWISE: rest} if rest else {}), Severity.INFO, "grid")
    exact = {path: t for path, t in exact.items() if t.sort != "grid"}
    if not exact:
        return
    groups: dict[str, list[str]] = {}
    families = {layer.family for layer in layers if layer.path in exact}
    for layer in layers:
        # What another kind of norm did not go through is no contradiction.
        if layer.family not in families:
            continue
        found = exact.get(layer.path)
        moved = part in layer.moved_parts
        text = found.text if found else _OTHERWISE if moved else _UNCHANGED
        groups.setdefault(text, []).append(layer.path)
    uniform = len(groups) == 1
    convention = part == "weight" and set(groups) <= _CONVENTION
    harmless = all(
        t.sort in _HARMLESS if part.startswith("running") else _is_harmless(t)
        for t in exact.values()
    ) and not any(_out_of_order(layer) for layer in layers if layer.path in exact)
    quiet = harmless or (uniform and convention)
    yield _finding(name, groups, Severity.INFO if quiet else Severity.WARNING, part)


def _finding(
    name: str, groups: Mapping[str, Sequence[str]], severity: Severity, key: str
) -> Finding:
    told = {text: paths for text, paths in groups.items() if text not in (_UNCHANGED, _OTHERWISE)}
    named = [path for paths in told.values() for path in paths]
    counted = [f"{text} in {plural(len(paths), 'norm')}" for text, paths in told.items()]
    rest = sum(len(paths) for text, paths in groups.items() if text not in told)
    if rest:
        counted.append(f"not in {rest} others" if rest > 1 else "not in another")
    everywhere = not rest and len(told) == 1
    return RULE.finding(
        severity=severity,
        layers=named,
        title=f"{name}: {', '.join(counted)}",
        detail=" ".join(f"{text}: {fold(paths)}." for text, paths in groups.items())
        + " Every channel, up to rounding.",
        consequence=(
            "One operation, the same everywhere: what loads the new file has to know of it."
            if everywhere
            else "An operation that was applied twice, or not everywhere: where it does not fit "
            "how the layer uses its numbers, the layer computes something else."
        ),
        fix="look into the conversion for this operation, and where it is applied",
        evidence=(
            Evidence("norms that went through it", float(len(named)), 0.0, len(named) + rest),
        ),
        discriminator=key,
    )


def _out_of_order(layer: LayerChange) -> bool:
    """Whether a norm's channels were put into another order, and not those that it is given."""
    permuted = any(t.sort == "permutation" for _, t in layer.transformed)
    return permuted and layer.weights is not None and not layer.weights.moved


def _is_harmless(found: Transformation) -> bool:
    """Whether it changes what a layer computes in no way that matters, or as weight decay does."""
    decayed = found.sort == "scale" and found.constant is not None and _DECAY < found.constant < 1
    return found.sort in _HARMLESS or decayed


def _was(paths: Sequence[str]) -> str:
    return "was" if len(paths) == 1 else "were"


RULE = Rule(
    code="NC608",
    name="exact-transformation",
    summary="numbers that one exact operation turned into others",
    severity=Severity.WARNING,
    need=Need.PAIR,
    page=__doc__ or "",
    check=check,
)
