"""What a run on data decides about findings that the file alone had to leave open.

Statistics at 0 and 1 are either lost or the ones that the weights were trained with; the file
cannot tell, labelled data can. One cause stays one finding: where a rule on the file has named a
layer, the measured damage is added there, and the rules on data do not name it again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from normcheck.findings import Confidence, Finding, Severity
from normcheck.rules.data.meant_code import meant_code
from normcheck.rules.data.meant_input import heals, meant_input
from normcheck.rules.data_verdict import Verdict, verdict
from normcheck.rules.evidence.initial_stats import trained_in_eval, trained_on_in_eval
from normcheck.rules.harm import Harm
from normcheck.rules.harm_by_outputs import ENOUGH_LABELS

if TYPE_CHECKING:
    from normcheck.live.measurement import Run

_ON_STATISTICS = frozenset({"NC101", "NC102", "NC103", "NC107", "NC108", "NC109"})
"""Rules that accuse statistics in the file of being wrong."""
_AT_INITIAL_VALUES = frozenset({"NC101", "NC102"})
"""Those of them that find statistics at 0 and 1."""
_ON_DATA = frozenset({"NC401"})
"""Rules that would name the same layers again."""
_FOREIGN = "NC108"
"""The rule that holds statistics against the weights alone."""
_UNDER_WARMED = "NC103"
"""The rule that finds a count of batches that leaves part of the initial value."""
_GUESSES = "NC406"
"""The rule that speaks where a model guesses and nothing else explains it."""
_HARM = ("NC1", "NC2", "NC3", "NC4")
"""Families whose warnings and errors can explain why a model guesses."""
_NO_HARM = "Re-estimating them would not help: on your data eval mode is right as it is."


def settled(findings: list[Finding], run: Run) -> list[Finding]:
    """The findings in the light of a run on data.

    Args:
        findings: Of one model, weighed.
        run: What running it showed.
    """
    judged = verdict(run)
    if judged is None:
        return findings
    on_file = [f for f in findings if f.rule in _ON_STATISTICS and _open(f)]
    named = {layer for finding in on_file for layer in finding.layers}
    kept = []
    for finding in findings:
        if finding in on_file:
            kept.append(_decided(finding, judged, run))
        elif finding.rule in _ON_DATA and named:
            rest = tuple(layer for layer in finding.layers if layer not in named)
            # What hit most of the layers has hit the others as well.
            if len(rest) > len(finding.layers) / 2:
                kept.append(replace(finding, layers=rest))
        else:
            kept.append(finding)
    if any(_open(f) and f.rule.startswith(_HARM) and f.rule != _GUESSES for f in kept):
        # One cause is one finding: that the model guesses stands with what makes it guess.
        kept = [f for f in kept if f.rule != _GUESSES]
    return kept


def _open(finding: Finding) -> bool:
    return finding.severity is not Severity.INFO


def _decided(finding: Finding, judged: Verdict, run: Run) -> Finding:
    meant = meant_input(run.against_data)
    if finding.rule == _FOREIGN and meant is not None and heals(meant):
        return replace(
            finding,
            severity=Severity.INFO,
            consequence="Your data acquit them: on the input that they are of all norms fit, and "
            "the answers are right.",
            fix="correct the preprocessing first, then scan again",
        )
    if finding.rule == _FOREIGN and meant_code(run.against_data, judged.harm) is not None:
        # The links were read from the same code: an activation that it lacks accuses them all.
        return replace(
            finding,
            severity=Severity.INFO,
            consequence="Your data acquit them: in the function that other-code names all norms "
            "fit.",
            fix="load the file into the code that was trained, then scan again",
        )
    enough = run.fed.samples >= ENOUGH_LABELS
    return decided(finding, judged, labelled=run.fed.labelled, enough=enough)


def decided(finding: Finding, judged: Verdict, *, labelled: bool, enough: bool) -> Finding:
    """A finding on statistics in the file, and what outputs on the user's data decide of it.

    Args:
        finding: Of the file alone.
        judged: What the outputs say of the stored statistics.
        labelled: Whether there were labels.
        enough: Whether there were so many that no change for the better means no harm.
    """
    if judged.harm in (Harm.PROVEN, Harm.SHOWN):
        return replace(
            finding,
            severity=judged.at_least(finding.severity),
            confidence=Confidence.HIGH,
            detail=f"{finding.detail} {judged.text}",
            consequence="Your data decide it: predictions in eval mode are worse than the "
            "weights can do.",
            fix="re-estimate the statistics on training data: normcheck fix, with the same "
            "--model and --data, writes a repaired copy",
        )
    if finding.rule in _AT_INITIAL_VALUES and labelled:
        told = _trained_in_eval(finding, judged)
        if told is not None:
            return told
    finding = replace(finding, detail=f"{finding.detail} {judged.text}")
    if judged.guesses or finding.rule in _AT_INITIAL_VALUES:
        return finding  # no good word for a model that guesses, or whose norms do nothing
    if judged.harm is Harm.STORED_RIGHT and labelled and finding.rule == _UNDER_WARMED:
        return trained_on_in_eval(finding)
    if judged.harm is Harm.STORED_RIGHT and labelled:
        return replace(
            finding,
            severity=Severity.INFO,
            confidence=Confidence.HIGH,
            consequence=f"Your data decide it. {_NO_HARM}",
            fix="keep the file as it is",
        )
    if judged.harm is Harm.NONE and labelled and enough:
        return replace(
            finding, severity=Severity.INFO, consequence=_NO_HARM, fix="keep the file as it is"
        )
    return finding


def _trained_in_eval(finding: Finding, judged: Verdict) -> Finding | None:
    """Statistics at 0 and 1 that the weights were trained with; None where nothing shows it."""
    if judged.both_guess:
        return trained_in_eval(
            finding,
            f"{judged.text} Weights that were trained on normalised activations would predict "
            "with re-estimated statistics.",
            "The model is as wrong as guessing: it learned nothing, as deep models do not without "
            "normalisation. (Labels that are not the model's would look the same.)",
            Severity.ERROR,
        )
    if judged.harm is not Harm.STORED_RIGHT:
        return None
    return trained_in_eval(
        finding,
        judged.text,
        "The model is as wrong as guessing."
        if judged.guesses
        else "The model predicts all the same, and re-estimated statistics would ruin it.",
        Severity.ERROR if judged.guesses else Severity.WARNING,
    )
