"""What a run was asked to do, merged once into a value that nothing changes afterwards."""

from __future__ import annotations

import fnmatch
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normcheck.findings import Confidence, Severity
from normcheck.rules.catalogue import RULES, narrow
from normcheck.sources.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from normcheck.config.baseline import Baseline
    from normcheck.live.run_request import Running
    from normcheck.rules.rule import Rule


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """What a configuration file says of the models that a pattern names."""

    pattern: str
    """``checkpoints/detector-*.pt``, relative to ``root``; ``*`` stands for slashes too. A
    pattern without a slash is held against the file's name."""
    root: Path
    """Folder of the configuration file."""
    select: tuple[str, ...] = ()
    """Selectors; empty for what the whole run selects."""
    ignore: tuple[str, ...] = ()
    model: str | None = None
    """Factory that builds the model: ``package.module:function``."""
    model_args: tuple[tuple[str, Any], ...] = ()
    """Keyword arguments of the factory."""
    data: str | None = None
    """An absolute path, or a factory."""
    input_shape: tuple[int, ...] | None = None
    batch_size: int | None = None
    device: str | None = None

    def names(self, file: Path) -> bool:
        """Whether the pattern means this file."""
        if "/" not in self.pattern:
            return fnmatch.fnmatchcase(file.name, self.pattern)
        path = Path(os.path.abspath(file))
        words = [path.as_posix()]
        if path.is_relative_to(self.root):
            words.append(path.relative_to(self.root).as_posix())
        return any(fnmatch.fnmatchcase(word, self.pattern) for word in words)

    @property
    def exactness(self) -> int:
        """How many characters of the pattern stand for themselves."""
        return sum(character not in "*?[]" for character in self.pattern)


@dataclass(frozen=True, slots=True)
class LayerIgnore:
    """Findings of some rules on some layers that are wanted as they are."""

    pattern: str
    """Of layer paths, as a shell has them: ``backbone.*``."""
    rules: tuple[str, ...]
    """Selectors."""
    reason: str = ""

    def means(self, path: str) -> bool:
        """Whether the pattern means the layer with this path."""
        return fnmatch.fnmatchcase(path, self.pattern)


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one scan."""

    rules: tuple[Rule, ...] = RULES
    fail_on: Severity = Severity.WARNING
    """Findings from this severity on fail the run; info never does."""
    strict: bool = False
    """Whether anything skipped makes the run fail as not done."""
    lines: bool = False
    """Make each file's line of JSON Lines where the file is read."""
    keep_predictions: bool = False
    """Keep predicted and stored means of every channel in the report, for a figure."""
    running: Running | None = None
    """How to run the models; None to read files only."""
    limits: Limits = field(default=DEFAULT_LIMITS)
    weights_budget: int | None = None
    """Bytes of weights that are read for one model, to see whether statistics belong to them;
    None for 256 MB of a local file and 64 MB of a remote one."""
    min_severity: Severity = Severity.INFO
    """Findings below it are listed as suppressed."""
    min_confidence: Confidence = Confidence.LOW
    """Findings below it are listed as suppressed."""
    layer_ignores: tuple[LayerIgnore, ...] = ()
    models: tuple[ModelSettings, ...] = ()
    baseline: Baseline | None = None
    """Findings that are known already."""

    def of_model(self, file: Path) -> ModelSettings | None:
        """The entry for a file: the most exact pattern, of equals the first; None without one."""
        found = [entry for entry in self.models if entry.names(file)]
        return max(found, key=lambda entry: entry.exactness, default=None)

    def running_of(self, file: Path) -> Running | None:
        """How a file is run: as the run says, and where it says nothing as the file's entry does.

        An entry alone runs nothing: it names code to import, and a configuration file in a
        folder that somebody scans must not decide that it is.
        """
        entry, running = self.of_model(file), self.running
        if running is None or entry is None:
            return running
        loading, feeding = running.loading, running.feeding
        if not loading.model and entry.model:
            loading = replace(loading, model=entry.model, arguments=dict(entry.model_args))
        if feeding.data is None and not feeding.shapes:
            shape = "x".join(map(str, entry.input_shape or ()))
            feeding = replace(feeding, data=entry.data, shapes=(shape,) if shape else ())
        if not feeding.batch_size and entry.batch_size:
            feeding = replace(feeding, batch_size=entry.batch_size)
        device = entry.device if entry.device and running.device == "cpu" else running.device
        return replace(running, loading=loading, feeding=feeding, device=device)

    def rules_of(self, file: Path) -> tuple[Rule, ...]:
        """The rules that judge a file: those of the run, narrowed by its entry."""
        entry = self.of_model(file)
        if entry is None:
            return self.rules
        return narrow(self.rules, list(entry.select) or ["ALL"], list(entry.ignore))
