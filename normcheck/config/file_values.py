"""What a configuration file says, as values; what it does not say is None or empty."""

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from normcheck.config.examination import ModelSettings
from normcheck.config.flags.settings_flags import Judging, OutputFlags
from normcheck.config.policy import LayerIgnore
from normcheck.findings import Severity
from normcheck.lazy_dataclass import lazy_dataclass


@lazy_dataclass()
class RuleSettings:
    """What a file says of one rule."""

    code: str
    severity: Severity | None = None
    options: Mapping[str, float] = field(default_factory=dict)


@lazy_dataclass()
class FileSettings:
    """What one file says."""

    path: Path | None = None
    """None where there is no file."""
    judging: Judging = field(default_factory=Judging)
    outputs: OutputFlags = field(default_factory=OutputFlags)
    models: tuple[ModelSettings, ...] = ()
    layer_ignores: tuple[LayerIgnore, ...] = ()
    rules: tuple[RuleSettings, ...] = ()
