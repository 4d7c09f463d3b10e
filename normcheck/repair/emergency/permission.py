"""Whether a file may be repaired without data, and which of its layers: what the file alone says.

No torch. Only statistics that are lost or of other weights are worth an estimate without data;
for those that are a little off it would be the greater evil.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normcheck.errors import NormcheckError
from normcheck.findings import Finding
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.find_norms import anatomy_of
from normcheck.repair.file_findings import statistics_findings
from normcheck.rules.evidence.initial_stats import FIX_LOST, FIX_TRAINED
from normcheck.wording import fold

if TYPE_CHECKING:
    from normcheck.norms.anatomy import Anatomy
    from normcheck.saved.checkpoint import Checkpoint, SavedModel

_LOST = frozenset({"NC101", "NC102", "NC104", "NC105", "NC107", "NC109", "NC113"})
"""Rules on statistics that are gone or impossible: the layers that they name, and no others."""
_FOREIGN = "NC108"
"""The rule on statistics of other weights."""
_BY_CHANNEL = frozenset({"NC104", "NC105"})
"""Of these, the rules on values that cannot be: the channels beside them are as they were."""
_OF_VARIANCES = frozenset(
    (
        "small variances",
        "large variances",
        "variances apart",
        "variances too small",
        "variances too large",
        "first variances apart",
    )
)
"""Readings of ``_FOREIGN`` that say nothing of means. How large variances are beside what the
weights predict depends on how smooth the images are, which without data is a guess: of 240 cases of
``benchmarks/repair_without_data.py`` the one that a repair made worse rested on them alone, and the
first norm, to which the fields are fitted, was of the same other weights."""
_RESET = "NC102"
"""The rule on 0 and 1 beside a count of batches: train mode has moved them before."""
_UNDER_WARMED = "NC103"
_MOST = 0.5
"""Share of the layers that weights predict from which all may be of other weights: those that are
not named stand behind no weights that could tell."""
_ENOUGH = 3
"""Layers that weights predict, from which these stand for all; of fewer all layers count."""
GIVE_DATA = (
    "give data: normcheck fix with --data re-estimates statistics exactly, from some dozens of "
    "samples of the kind that the model was trained on, without labels"
)
"""What helps wherever a repair without data does not."""


@lazy_dataclass()
class Accused:
    """What the file says of its own statistics."""

    layers: frozenset[str]
    """Paths in the file of the layers whose statistics are lost or of other weights."""
    doubtful: frozenset[str]
    """Those that nothing speaks for or against, where most of the others are of other weights."""
    unlike: frozenset[str]
    """Of ``layers`` those that nothing but weights which predict other means speaks against."""
    in_part: frozenset[str]
    """Of ``layers`` those in which only channels that cannot be are wrong: NaN, or a negative
    variance."""
    reasons: tuple[str, ...]
    """In words, by what that is known."""
    lost: bool
    """Whether any are lost or impossible, and not only unlike the weights."""
    foreign: bool
    """Whether any are of other weights: those that nothing speaks against may be, too."""
    untold: bool
    """Whether all are at 0 and 1, and nothing in the file tells that the weights were not trained
    with these."""


def accused_layers(checkpoint: Checkpoint, saved: SavedModel) -> Accused:
    """The layers whose statistics may be replaced without data.

    Args:
        checkpoint: The file, open.
        saved: The model in it.

    Raises:
        NormcheckError: None; with what would help instead.
    """
    anatomies = {model.where: anatomy_of(model) for model in checkpoint.models}
    findings = statistics_findings(checkpoint, saved, anatomies)
    grave = [f for f in findings if f.rule in _LOST or (f.rule == _FOREIGN and not _vague(f))]
    own = anatomies[saved.where]
    if not grave:
        raise _too_mild(findings, own)
    trained = next((f for f in grave if f.fix == FIX_TRAINED), None)
    if trained is not None:
        raise NormcheckError(f"{trained.title}: statistics of 0 and 1 are right", FIX_TRAINED)
    for other in checkpoint.models:
        if other is not saved and _is_healthier(checkpoint, other, anatomies, own):
            raise NormcheckError(
                f"the file holds a healthier copy of the model at {other.where!r}",
                f"use that one: its statistics are as they should be; or {GIVE_DATA}",
            )
    layers = {path for f in grave for path in f.layers}
    whole = {path for f in grave if f.rule not in _BY_CHANNEL for path in f.layers}
    tracked = {layer.path for layer in own.layers if layer.uses_statistics}
    foreign = frozenset(path for f in grave if f.rule == _FOREIGN for path in f.layers)
    told = {fit.link.target.path for fit in own.agreement.likely} if own.agreement else set()
    judged = told | foreign if len(told) >= _ENOUGH else tracked
    most = bool(foreign) and len(foreign) >= _MOST * len(judged)
    return Accused(
        frozenset(layers),
        frozenset(tracked - layers) if most else frozenset(),
        foreign - {path for f in grave if f.rule != _FOREIGN for path in f.layers},
        frozenset(layers - whole),
        tuple(f"{f.rule} ({f.title})" for f in grave),
        any(f.rule in _LOST for f in grave),
        bool(foreign),
        all(layer.at_initial_values for layer in own.layers if layer.path in tracked)
        and not any(f.rule == _RESET or f.fix == FIX_LOST for f in grave),
    )


def _too_mild(findings: list[Finding], anatomy: Anatomy) -> NormcheckError:
    if not any(layer.uses_statistics for layer in anatomy.layers):
        return NormcheckError(
            "the model has no norm with running statistics",
            "LayerNorm, GroupNorm and InstanceNorm have none: nothing to re-estimate",
        )
    warm = next((f for f in findings if f.rule == _UNDER_WARMED), None)
    if warm is not None:
        unwarm = "--unwarm takes out what is left of the initial value, exactly; or "
        return only_mildly_off(warm.title, f"{unwarm}{GIVE_DATA}")
    if any(f.rule == _FOREIGN for f in findings):
        return NormcheckError(
            "only the size of the variances speaks against the statistics, which depends on the "
            "images: without data they may get worse",
            GIVE_DATA,
        )
    return NormcheckError(
        "nothing in the file says that its statistics are lost or of other weights: without data "
        "they would get worse",
        GIVE_DATA,
    )


def only_mildly_off(why: str, hint: str = GIVE_DATA) -> NormcheckError:
    """The refusal of a repair without data of statistics that it would make worse."""
    return NormcheckError(
        f"statistics are only mildly off ({why}): without data they would get worse", hint
    )


def _vague(finding: Finding) -> bool:
    """Whether statistics are called foreign for the size of their variances alone."""
    return set(finding.discriminator.split(", ")) <= _OF_VARIANCES


def _is_healthier(
    checkpoint: Checkpoint, other: SavedModel, anatomies: dict[str, Anatomy], own: Anatomy
) -> bool:
    """Whether another model of the file is the same network with nothing against it."""
    theirs = anatomies[other.where]
    if [(x.kind.name, x.features) for x in theirs.layers] != [
        (x.kind.name, x.features) for x in own.layers
    ]:
        return False
    findings = statistics_findings(checkpoint, other, anatomies)
    return all(x.has_statistics for x in theirs.layers if x.uses_statistics) and not any(
        f.rule in (*_LOST, _FOREIGN, _UNDER_WARMED) for f in findings
    )


def in_words(accused: Accused) -> str:
    """By what it is known, for a report."""
    return fold(accused.reasons)
