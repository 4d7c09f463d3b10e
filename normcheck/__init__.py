"""normcheck says why a trained model predicts badly: it checks normalization layers.

>>> import normcheck
>>> report = normcheck.scan(["sample_models/statistics-lost.pt"])
>>> report.findings[0].rule
'NC101'

Importing this package imports no torch, and scanning does not either.
"""

from typing import TYPE_CHECKING, Any

from normcheck.version import VERSION

__version__ = VERSION

if TYPE_CHECKING:
    from normcheck.api.diff import diff
    from normcheck.api.fix import fix
    from normcheck.api.scan import assert_healthy, scan
    from normcheck.config.examination import Examination
    from normcheck.config.policy import LayerIgnore, Policy
    from normcheck.errors import GuardError, GuardWarning, NormcheckError
    from normcheck.findings import Confidence, Evidence, Finding, Severity, Suppressed
    from normcheck.integrations.guard.guard import Guard, guard
    from normcheck.repair.estimating.recalibrate import Recalibration, recalibrate
    from normcheck.repair.repair_result import Repair
    from normcheck.report.diff_report import Diff
    from normcheck.report.layer_list import LayerList
    from normcheck.report.report import Report

__all__ = [
    "Confidence",
    "Diff",
    "Evidence",
    "Examination",
    "Finding",
    "Guard",
    "GuardError",
    "GuardWarning",
    "LayerIgnore",
    "LayerList",
    "NormcheckError",
    "Policy",
    "Recalibration",
    "Repair",
    "Report",
    "Severity",
    "Suppressed",
    "__version__",
    "assert_healthy",
    "diff",
    "fix",
    "guard",
    "recalibrate",
    "scan",
]

_HOMES = {
    "Confidence": "normcheck.findings",
    "Diff": "normcheck.report.diff_report",
    "Evidence": "normcheck.findings",
    "Examination": "normcheck.config.examination",
    "Finding": "normcheck.findings",
    "Guard": "normcheck.integrations.guard.guard",
    "GuardError": "normcheck.errors",
    "GuardWarning": "normcheck.errors",
    "LayerList": "normcheck.report.layer_list",
    "LayerIgnore": "normcheck.config.policy",
    "NormcheckError": "normcheck.errors",
    "Policy": "normcheck.config.policy",
    "Recalibration": "normcheck.repair.estimating.recalibrate",
    "Repair": "normcheck.repair.repair_result",
    "Report": "normcheck.report.report",
    "Severity": "normcheck.findings",
    "Suppressed": "normcheck.findings",
    "assert_healthy": "normcheck.api.scan",
    "diff": "normcheck.api.diff",
    "fix": "normcheck.api.fix",
    "guard": "normcheck.integrations.guard.guard",
    "recalibrate": "normcheck.repair.estimating.recalibrate",
    "scan": "normcheck.api.scan",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: numpy costs more than all else here."""
    import importlib

    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
