"""What a mismatch between statistics and weights looks like it comes from."""

from normcheck.findings import Severity
from normcheck.lazy_dataclass import lazy_dataclass


@lazy_dataclass()
class Cause:
    """What a pattern suggests."""

    key: str
    title: str
    detail: str
    consequence: str
    severity: Severity
