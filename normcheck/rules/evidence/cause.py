"""What a mismatch between statistics and weights looks like it comes from."""

from dataclasses import dataclass

from normcheck.findings import Severity


@dataclass(frozen=True, slots=True)
class Cause:
    """What a pattern suggests."""

    key: str
    title: str
    detail: str
    consequence: str
    severity: Severity
