"""What a run on data decides about findings that the file alone had to leave open.

Statistics at 0 and 1 are either lost or the ones that the weights were trained with; the file
cannot tell, labelled data can. One cause stays one finding: where a rule on the file has named a
layer, the measured damage is added there, and the rules on data do not name it again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from normcheck.findings import Confidence, Finding, Severity
from normcheck.rules.data_verdict import ENOUGH_LABELS, Harm, Verdict, verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normcheck.live.measurement import Run

_ON_STATISTICS = frozenset({"NC101", "NC102", "NC103", "NC107", "NC108", "NC109"})
"""Rules that accuse statistics in the file of being wrong."""
_ON_DATA = frozenset({"NC401"})
"""Rules that would name the same layers again."""
_NO_HARM = "Re-estimating them would not help: on your data eval mode is right as it is."


def settled(findings: Sequence[Finding], run: Run | None) -> list[Finding]:
    """The findings in the light of a run on data.

    Args:
        findings: Of one model.
        run: What running it showed; None where it was not run.
    """
    judged = verdict(run) if run else None
    if run is None or judged is None:
        return list(findings)
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
    return kept


def _open(finding: Finding) -> bool:
    return finding.severity is not Severity.INFO


def _decided(finding: Finding, judged: Verdict, run: Run) -> Finding:
    detail = f"{finding.detail} {judged.text}"
    match judged.harm:
        case Harm.PROVEN:
            return replace(
                finding,
                severity=Severity.ERROR,
                confidence=Confidence.HIGH,
                detail=detail,
                consequence="Your data decide it: predictions in eval mode are worse than the "
                "weights can do.",
                fix="re-estimate the statistics on training data: normcheck fix, with the same "
                "--model and --data, writes a repaired copy",
            )
        case Harm.STORED_RIGHT if run.fed.labelled:
            return replace(
                finding,
                severity=Severity.INFO,
                confidence=Confidence.HIGH,
                detail=detail,
                consequence=f"Your data decide it. {_NO_HARM}",
                fix="keep the file as it is",
            )
        case Harm.NONE if run.fed.labelled and run.fed.samples >= ENOUGH_LABELS:
            return replace(
                finding, severity=Severity.INFO, detail=detail, consequence=_NO_HARM,
                fix="keep the file as it is",
            )  # fmt: skip
        case _:
            return replace(finding, detail=detail)
