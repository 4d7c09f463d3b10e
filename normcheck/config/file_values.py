"""What a configuration file says, as values; what it does not say is None or empty."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from normcheck.config.examination import ModelSettings
from normcheck.config.policy import LayerIgnore
from normcheck.findings import Confidence, Severity


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """What a file says of one rule."""

    code: str
    severity: Severity | None = None
    options: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FileSettings:
    """What one file says."""

    path: Path | None = None
    """None where there is no file."""
    select: tuple[str, ...] | None = None
    extend_select: tuple[str, ...] | None = None
    ignore: tuple[str, ...] | None = None
    min_severity: Severity | None = None
    min_confidence: Confidence | None = None
    fail_on: Severity | None = None
    strict: bool | None = None
    format: str | None = None
    baseline: Path | None = None
    models: tuple[ModelSettings, ...] = ()
    layer_ignores: tuple[LayerIgnore, ...] = ()
    rules: tuple[RuleSettings, ...] = ()
