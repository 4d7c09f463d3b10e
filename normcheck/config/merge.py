"""Defaults ← configuration file ← environment ← flags, and where each value came from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normcheck.config.discover import discover, named, shown
from normcheck.config.examination import Examination
from normcheck.config.file_values import FileSettings
from normcheck.config.flags.flag import Declared, Group, flags_of
from normcheck.config.flags.settings_flags import Configuration, Flags
from normcheck.config.policy import Policy
from normcheck.errors import UsageError
from normcheck.findings import Confidence, Severity
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.rules.catalogue import select
from normcheck.sources.place import local

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from normcheck.rules.rule import Rule

DEFAULT = "default"
"""Origin of a value that nobody set."""


@lazy_dataclass()
class Origin:
    """One setting, its value and who set it."""

    key: str
    value: Any
    source: str
    """``default``, a file, a variable of the environment, or a flag."""


@lazy_dataclass()
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
    file = _file(flags.configuration, environment, folder)
    merge = _Merge(file, environment)
    # Who asks for a rule by a flag means to see it, whatever the file says of it.
    chosen = split(flags.judging.select or ())
    said = replace(file.judging, extend_select=None, ignore=None) if chosen else file.judging
    judging = merge.group(flags.judging, said)
    outputs = merge.group(flags.outputs, file.outputs)
    rules = select([*judging["select"], *judging["extend_select"]], list(judging["ignore"]))
    return Resolved(
        examination=Examination(rules=_tuned(rules, file), models=file.models),
        policy=Policy(
            fail_on=Severity(judging["fail_on"]),
            strict=judging["strict"],
            min_severity=Severity(judging["min_severity"]),
            min_confidence=Confidence(judging["min_confidence"]),
            layer_ignores=file.layer_ignores,
        ),
        formats=outputs["formats"],
        outputs=outputs["output_file"],
        baseline=local(judging["baseline"], "--baseline") if judging["baseline"] else None,
        file=file,
        origins=tuple(merge.origins),
    )


def with_baseline(resolved: Resolved) -> Policy:
    """The policy with the baseline read, where there is to be one.

    Raises:
        UsageError: The baseline is missing or damaged.
    """
    if resolved.baseline is None:
        return resolved.policy
    from normcheck.config.baseline import read_baseline  # most runs have none

    return replace(resolved.policy, baseline=read_baseline(resolved.baseline))


def _file(said: Configuration, environment: Mapping[str, str], folder: Path) -> FileSettings:
    if said.no_config:
        if said.config:
            raise UsageError("--config and --no-config contradict each other", "leave one out")
        return FileSettings()
    name = said.config or environment.get("NORMCHECK_CONFIG")
    if name:
        path = folder / local(name, "--config")
        found: tuple[Path, dict[str, Any]] | None = path, named(path)
    else:
        found = discover(folder)
    if found is None:
        return FileSettings()
    from normcheck.config.parse import parse

    return parse(found[1], found[0])


class _Merge:
    """Takes each setting from the source with the last word on it, and notes which that was."""

    def __init__(self, file: FileSettings, environment: Mapping[str, str]) -> None:
        self.origins: list[Origin] = []
        self._file = shown(file.path) if file.path else ""
        self._environment = environment

    def group(self, flags: Group, file: Group) -> dict[str, Any]:
        """The value that holds for every field of a group.

        Args:
            flags: What the command line says.
            file: What the configuration file says.
        """
        merged: dict[str, Any] = {}
        for entry in flags_of(type(flags)):
            flag, in_file = getattr(flags, entry.field), getattr(file, entry.field)
            key = entry.flag.key
            if key is not None and key.reads == "selectors":
                flag = tuple(split(flag or ())) or None
            if key is not None and key.adds:
                merged[entry.field] = self._both(entry, flag or (), in_file or ())
            else:
                merged[entry.field] = self._last(entry, flag, in_file)
        return merged

    def _last(self, entry: Declared, flag: Any, in_file: Any) -> Any:
        unset = entry.flag.key.default if entry.flag.key else entry.flag.unset
        value: Any = None if unset == "none" else json.loads(unset)
        source = DEFAULT
        variable = f"NORMCHECK_{entry.key.upper().replace('-', '_')}"
        said = self._environment.get(variable) if entry.flag.variable else None
        if flag != entry.default:
            value, source = flag, entry.name
        elif said:
            if entry.flag.choices and said not in entry.flag.choices:
                raise UsageError(
                    f"{variable}: {said!r:.60} is not one of {', '.join(entry.flag.choices)}",
                    f"change the variable, or give {entry.name}",
                )
            value, source = said, variable
        elif in_file != entry.default:
            value, source = in_file, self._file
        if entry.repeats:
            value = (value,) if isinstance(value, str) else tuple(value)
        one = entry.repeats and entry.default == ()  # a word, or several on the command line
        self.origins.append(Origin(entry.key, ", ".join(value) if one else value, source))
        return value

    def _both(self, entry: Declared, flag: tuple[str, ...], in_file: tuple[str, ...]) -> Any:
        """A list that the command line adds to."""
        sources = [self._file] if in_file else []
        sources += [entry.name] if flag else []
        value = (*in_file, *flag)
        self.origins.append(Origin(entry.key, value, ", ".join(sources) or DEFAULT))
        return value


def split(options: Sequence[str]) -> list[str]:
    """Words of options that may be repeated and may hold commas."""
    return [word.strip() for option in options for word in option.split(",") if word.strip()]


def _tuned(rules: tuple[Rule, ...], file: FileSettings) -> tuple[Rule, ...]:
    """The rules with the severities and thresholds of the file."""
    said = {entry.code: entry for entry in file.rules}
    return tuple(
        replace(rule, forced_severity=entry.severity, chosen=entry.options)
        if (entry := said.get(rule.code))
        else rule
        for rule in rules
    )
