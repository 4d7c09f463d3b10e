"""Defaults ← configuration file ← environment ← flags, and where each value came from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normcheck.config.discover import discover, named, shown
from normcheck.config.examination import Examination
from normcheck.config.file_values import FileSettings
from normcheck.config.keys import ENVIRONMENT, FAILING, FORMATS
from normcheck.config.parse import parse
from normcheck.config.policy import Policy
from normcheck.errors import UsageError
from normcheck.findings import Confidence, Severity
from normcheck.rules.catalogue import select
from normcheck.sources.place import local

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from normcheck.rules.rule import Rule

DEFAULT = "default"
"""Origin of a value that nobody set."""


@dataclass(frozen=True, slots=True)
class Flags:
    """What the command line says of settings; None and empty where it says nothing."""

    select: Sequence[str] = ()
    extend_select: Sequence[str] = ()
    ignore: Sequence[str] = ()
    min_severity: str | None = None
    min_confidence: str | None = None
    fail_on: str | None = None
    strict: bool | None = None
    formats: Sequence[str] = ()
    outputs: Sequence[str] = ()
    """Files, the first for the first format."""
    baseline: str | None = None
    config: str | None = None
    isolated: bool = False


@dataclass(frozen=True, slots=True)
class Origin:
    """One setting, its value and who set it."""

    key: str
    value: Any
    source: str
    """``default``, a file, a variable of the environment, or a flag."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """Everything that was decided before the run."""

    examination: Examination
    policy: Policy
    """Without the baseline, which is not read yet."""
    formats: tuple[str, ...]
    outputs: tuple[str, ...]
    baseline: Path | None
    """Where the baseline is, or is to be."""
    file: FileSettings
    origins: tuple[Origin, ...]


def resolve(flags: Flags, environment: Mapping[str, str], folder: Path) -> Resolved:
    """Merge all that speaks about settings.

    Args:
        flags: Of the command line.
        environment: Variables, of which only those of ``ENVIRONMENT`` count.
        folder: From where a configuration file is looked for, upward.

    Raises:
        UsageError: Something of it is wrong; files, variables and flags are named.
    """
    file = _file(flags, environment, folder)
    merge = _Merge(file, environment)
    selected, dropped = _selectors(flags, file, merge)
    severity = merge.one("min-severity", flags.min_severity, file.min_severity, "info")
    confidence = merge.one("min-confidence", flags.min_confidence, file.min_confidence, "low")
    fail_on = merge.one("fail-on", flags.fail_on, file.fail_on, "warning", FAILING)
    strict = merge.one("strict", flags.strict, file.strict, False)
    form = merge.one("format", _only(flags.formats), file.format, "text", FORMATS)
    output = merge.one("output-file", _only(flags.outputs), None, "-")
    baseline = merge.one("baseline", flags.baseline, file.baseline, None)
    return Resolved(
        examination=Examination(
            rules=_tuned(select(selected, dropped), file),
            models=file.models,
        ),
        policy=Policy(
            fail_on=Severity(fail_on),
            strict=strict,
            min_severity=Severity(severity),
            min_confidence=Confidence(confidence),
            layer_ignores=file.layer_ignores,
        ),
        formats=tuple(flags.formats) or (form,),
        outputs=tuple(flags.outputs) or (output,),
        baseline=_baseline(baseline),
        file=file,
        origins=tuple(merge.origins),
    )


def _baseline(said: str | Path | None) -> Path | None:
    if not said:
        return None
    return local(said, "--baseline") if isinstance(said, str) else said


def with_baseline(resolved: Resolved) -> Policy:
    """The policy with the baseline read, where there is to be one.

    Raises:
        UsageError: The baseline is missing or damaged.
    """
    if resolved.baseline is None:
        return resolved.policy
    from normcheck.config.baseline import read_baseline  # most runs have none

    return replace(resolved.policy, baseline=read_baseline(resolved.baseline))


def _file(flags: Flags, environment: Mapping[str, str], folder: Path) -> FileSettings:
    if flags.isolated:
        if flags.config:
            raise UsageError("--config and --isolated contradict each other", "leave one out")
        return FileSettings()
    name = flags.config or environment.get("NORMCHECK_CONFIG")
    if name:
        path = folder / local(name, "--config")
        return parse(named(path), path)
    found = discover(folder)
    return parse(found[1], found[0]) if found else FileSettings()


class _Merge:
    """Takes each setting from who has the last word on it, and notes who that was."""

    def __init__(self, file: FileSettings, environment: Mapping[str, str]) -> None:
        self.origins: list[Origin] = []
        self._file = shown(file.path) if file.path else ""
        self._environment = environment

    def one(
        self, key: str, flag: Any, in_file: Any, default: Any, words: Sequence[str] = ()
    ) -> Any:
        value, source = default, DEFAULT
        variable = f"NORMCHECK_{key.upper().replace('-', '_')}"
        said = self._environment.get(variable) if variable in ENVIRONMENT else None
        if flag is not None:
            value, source = flag, f"--{key}"
        elif said:
            if words and said not in words:
                raise UsageError(
                    f"{variable}: {said!r:.60} is none of {', '.join(words)}",
                    f"change the variable, or give --{key}",
                )
            value, source = said, variable
        elif in_file is not None:
            value, source = in_file, self._file
        self.origins.append(Origin(key, value, source))
        return value

    def many(self, key: str, flag: list[str], in_file: Sequence[str] | None) -> list[str]:
        """A list that the command line adds to."""
        sources = [self._file] if in_file else []
        sources += [f"--{key}"] if flag else []
        value = [*(in_file or ()), *flag]
        self.origins.append(Origin(key, value, ", ".join(sources) or DEFAULT))
        return value


def _selectors(flags: Flags, file: FileSettings, merge: _Merge) -> tuple[list[str], list[str]]:
    """What is selected and what is ignored.

    ``--select`` starts afresh: who asks for a rule by a flag means to see it, whatever the
    file says of it. The other two flags add to the file.
    """
    chosen = split(flags.select)
    selected = merge.one("select", chosen or None, file.select, ["ALL"])
    base = FileSettings() if chosen else file
    more = merge.many("extend-select", split(flags.extend_select), base.extend_select)
    ignored = merge.many("ignore", split(flags.ignore), base.ignore)
    return [*selected, *more], ignored


def split(options: Sequence[str]) -> list[str]:
    """Words of options that may be repeated and may hold commas."""
    return [word.strip() for option in options for word in option.split(",") if word.strip()]


def _only(words: Sequence[str]) -> str | None:
    return ", ".join(words) if words else None


def _tuned(rules: tuple[Rule, ...], file: FileSettings) -> tuple[Rule, ...]:
    """The rules with the severities and thresholds of the file."""
    said = {entry.code: entry for entry in file.rules}
    return tuple(
        replace(rule, forced_severity=entry.severity, chosen=entry.options)
        if (entry := said.get(rule.code))
        else rule
        for rule in rules
    )
