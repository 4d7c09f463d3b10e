"""From the tables of a configuration file to values, or to an error that names the key."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from normcheck.config.discover import shown
from normcheck.config.examination import ModelSettings
from normcheck.config.file_values import FileSettings, RuleSettings
from normcheck.config.keys import CONFIDENCES, FAILING, FORMATS, IGNORE, MODEL, SEVERITIES, TOP, Key
from normcheck.config.policy import LayerIgnore
from normcheck.errors import ConfigError, UsageError
from normcheck.findings import Confidence, Severity
from normcheck.rules.catalogue import check_selector, find
from normcheck.sources.place import is_remote
from normcheck.sources.place import shown as shown_place

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
    severity = file.one_of("min-severity", SEVERITIES)
    confidence = file.one_of("min-confidence", CONFIDENCES)
    fail_on = file.one_of("fail-on", FAILING)
    baseline = file.path_of("baseline")
    return FileSettings(
        path=path,
        select=file.selectors("select"),
        extend_select=file.selectors("extend-select"),
        ignore=file.selectors("ignore"),
        min_severity=Severity(severity) if severity else None,
        min_confidence=Confidence(confidence) if confidence else None,
        fail_on=Severity(fail_on) if fail_on else None,
        strict=file.flag("strict"),
        format=file.one_of("format", FORMATS),
        baseline=baseline,
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
                near = difflib.get_close_matches(name.replace("_", "-"), names, n=1, cutoff=0.5)
                meant = f"did you mean {near[0]}? " if near else ""
                raise self.error(name, "unknown key", f"{meant}known here: {', '.join(names)}")

    def child(self, key: str) -> "_Table":
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            raise self.error(key, "should be a table")
        return _Table(value, self.path, ".".join(part for part in (self.where, key) if part))

    def tables(self, key: str) -> list[tuple[str, "_Table"]]:
        child = self.child(key)
        return [(name, child.child(name)) for name in child.values]

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

    def flag(self, key: str) -> bool | None:
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
            near = difflib.get_close_matches(value, words, n=1)
            hint = f"did you mean {near[0]}?" if near else ""
            raise self.error(key, f"{value!r:.60} is none of {', '.join(words)}", hint)
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
    return ModelSettings(
        pattern=pattern.removeprefix("./"),
        root=table.path.parent,
        file=shown(table.path),
        select=table.selectors("select") or (),
        ignore=table.selectors("ignore") or (),
        model=_factory(table),
        model_args=tuple(table.child("model-args").values.items()),
        data=_data(table),
        input_shape=_shape(table),
        batch_size=table.count("batch-size"),
        device=table.text("device"),
    )


def _factory(table: _Table) -> str | None:
    value = table.text("model")
    if value is not None and not _FACTORY.fullmatch(value):
        raise table.error("model", f"{value!r:.60} is no factory", "write package.module:function")
    return value


def _data(table: _Table) -> str | None:
    value = table.text("data")
    if value is None or _FACTORY.fullmatch(value):
        return value
    return str(table.path_of("data"))


def _shape(table: _Table) -> tuple[int, ...] | None:
    value = table.values.get("input-shape")
    if value is None:
        return None
    sizes = isinstance(value, list) and all(type(size) is int and size > 0 for size in value)
    if not value or not sizes:
        raise table.error("input-shape", "should be a list of sizes, like [3, 224, 224]")
    return tuple(value)


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
