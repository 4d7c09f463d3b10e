"""From the tables of a configuration file to values, or to an error that names the key."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from normcheck.config.choices import SEVERITIES
from normcheck.config.discover import shown
from normcheck.config.examination import ModelSettings
from normcheck.config.file_values import FileSettings, RuleSettings
from normcheck.config.flags.flag import filled
from normcheck.config.flags.settings_flags import Judging, OutputFlags
from normcheck.config.keys import IGNORE, MODEL, TOP, Key
from normcheck.config.policy import LayerIgnore
from normcheck.errors import ConfigError, UsageError
from normcheck.findings import Severity
from normcheck.rules.catalogue import check_selector, find
from normcheck.sources.place import is_remote
from normcheck.sources.place import shown as shown_place
from normcheck.wording import nearest

_FACTORY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_TRUST = ("trust", "trust-config")


def parse(table: dict[str, Any], path: Path) -> FileSettings:
    """The settings of a file.

    Args:
        table: ``[tool.normcheck]`` of a pyproject.toml, or the whole of a normcheck.toml.
        path: The file, which errors name and to which paths are relative.

    Raises:
        ConfigError: An unknown key or rule, or a value of another form.
    """
    file = _Table(table, path)
    file.know(TOP)
    values = {key.field: file.value(key) for key in TOP if key.field}
    if (form := values["formats"]) is not None:
        values["formats"] = (form,)
    said = {field: value for field, value in values.items() if value is not None}
    return FileSettings(
        path=path,
        judging=filled(Judging, said),
        outputs=filled(OutputFlags, said),
        models=tuple(_model(entry, name) for name, entry in file.tables("models")),
        layer_ignores=tuple(_ignores(file.child("per-layer-ignores"))),
        rules=tuple(_rules(file.child("rules"))),
    )


class _Table:
    """One table of a file; every error of it names file, table and key."""

    def __init__(self, values: dict[str, Any], path: Path, where: str = "") -> None:
        self.values = values
        self.path = path
        self.where = where

    def error(self, key: str, problem: str, hint: str = "") -> ConfigError:
        name = ".".join(part for part in (self.where, key) if part)
        return ConfigError(f"{shown(self.path)}: {name}: {problem}", hint)

    def know(self, keys: Sequence[Key], besides: Sequence[str] = ()) -> None:
        """See that every key is one of these."""
        names = [key.name for key in keys] + list(besides)
        for name in self.values:
            if name in _TRUST:
                raise self.error(
                    name,
                    "a file cannot switch on running code",
                    f"whoever runs normcheck decides that, with the flag --{name}",
                )
            if name not in names:
                near = nearest(name.replace("_", "-"), names, alike=0.5)
                meant = f"did you mean {near}? " if near else ""
                raise self.error(name, "unknown key", f"{meant}known here: {', '.join(names)}")

    def child(self, key: str) -> "_Table":
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            raise self.error(key, "should be a table")
        return _Table(value, self.path, ".".join(part for part in (self.where, key) if part))

    def tables(self, key: str) -> list[tuple[str, "_Table"]]:
        child = self.child(key)
        return [(name, child.child(name)) for name in child.values]

    def value(self, key: Key) -> Any:
        """The value of a key in the way that its declaration says; None where it has none."""
        match key.reads:
            case "selectors":
                return self.selectors(key.name)
            case "one_of":
                return self.one_of(key.name, key.choices)
            case "switch":
                return self.switch(key.name)
            case "path":
                path = self.path_of(key.name)
                return None if path is None else str(path)
            case "factory":
                return self.factory(key.name)
            case "data":
                return self.data(key.name)
            case "arguments":
                return tuple(self.child(key.name).values.items()) or None
            case "shape":
                return self.shape(key.name)
            case "count":
                return self.count(key.name)
            case "text":
                return self.text(key.name)
            case how:
                raise ValueError(f"no way to read {how}")

    def factory(self, key: str) -> str | None:
        """Code that builds a model."""
        value = self.text(key)
        if value is not None and not _FACTORY.fullmatch(value):
            raise self.error(key, f"{value!r:.60} is no factory", "write package.module:function")
        return value

    def data(self, key: str) -> str | None:
        """Code that gives data, or a file."""
        value = self.text(key)
        if value is None or _FACTORY.fullmatch(value):
            return value
        return str(self.path_of(key))

    def shape(self, key: str) -> tuple[int, ...] | None:
        """Sizes of one sample."""
        value = self.values.get(key)
        if value is None:
            return None
        sizes = isinstance(value, list) and all(type(size) is int and size > 0 for size in value)
        if not value or not sizes:
            raise self.error(key, "should be a list of sizes, like [3, 224, 224]")
        return tuple(value)

    def text(self, key: str) -> str | None:
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not value:
            raise self.error(key, "should be a text")
        return value

    def path_of(self, key: str) -> Path | None:
        """A file of this machine, relative to the configuration's folder."""
        value = self.text(key)
        if value is not None and is_remote(value):
            raise self.error(key, f"{shown_place(value)} is an address", "name a file")
        return None if value is None else self.path.parent / value

    def switch(self, key: str) -> bool | None:
        value = self.values.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.error(key, "should be true or false")
        return value

    def count(self, key: str) -> int | None:
        value = self.values.get(key)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise self.error(key, "should be a whole number")
        if value is not None and value < 1:
            raise self.error(key, "should be 1 or more")
        return value

    def one_of(self, key: str, words: Sequence[str]) -> str | None:
        value = self.text(key)
        if value is not None and value not in words:
            near = nearest(value, words)
            hint = f"did you mean {near}?" if near else ""
            raise self.error(key, f"{value!r:.60} is not one of {', '.join(words)}", hint)
        return value

    def selectors(self, key: str) -> tuple[str, ...] | None:
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise self.error(key, 'should be a list of rules, like ["NC1", "reset-stats"]')
        for word in value:
            try:
                check_selector(word)
            except UsageError as error:
                raise self.error(key, error.message, error.hint) from error
        return tuple(value)


def _model(table: _Table, pattern: str) -> ModelSettings:
    table.know(MODEL)
    said = {key.field: value for key in MODEL if (value := table.value(key)) is not None}
    return ModelSettings(
        pattern=pattern.removeprefix("./"), root=table.path.parent, file=shown(table.path), **said
    )


def _ignores(table: _Table) -> list[LayerIgnore]:
    found = []
    for pattern, value in table.values.items():
        # The short form is a list of rules, without a reason.
        entry = _Table({"rules": value}, table.path, f"{table.where}.{pattern}")
        if isinstance(value, dict):
            entry = table.child(pattern)
        entry.know(IGNORE)
        rules = entry.selectors("rules")
        if not rules:
            raise entry.error("rules", "should name at least one rule")
        found.append(LayerIgnore(pattern, rules, entry.text("reason") or ""))
    return found


def _rules(table: _Table) -> list[RuleSettings]:
    found: dict[str, RuleSettings] = {}
    for word in table.values:
        try:
            rule = find(word)
        except UsageError as error:
            raise table.error(word, error.message, error.hint) from error
        if rule.code in found:
            raise table.error(word, f"{rule.code} ({rule.name}) is set twice")
        entry = table.child(word)
        options = {option.name: option for option in rule.options}
        entry.know((), ["severity", *options])
        severity = entry.one_of("severity", SEVERITIES)
        chosen: dict[str, float] = {}
        for name, option in options.items():
            if name in entry.values:
                value = entry.values[name]
                if type(value) not in (int, float) or not option.allows(value):
                    raise entry.error(name, f"should be a number {option.bounds}")
                chosen[name] = float(value)
        forced = Severity(severity) if severity else None
        found[rule.code] = RuleSettings(rule.code, forced, chosen)
    return list(found.values())
