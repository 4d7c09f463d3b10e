"""``normcheck scan --show-settings``: what a run would do, and who said so."""

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from normcheck.cli.flags.scan_flags import Scan
from normcheck.config.discover import shown
from normcheck.config.examination import ModelSettings
from normcheck.config.flags.flag import flags_of, values_of
from normcheck.config.keys import MODEL
from normcheck.config.merge import Resolved
from normcheck.rules.catalogue import RULES, find
from normcheck.sources import place
from normcheck.wording import printable

_COLUMN = 44
"""Where the comments begin, unless a line is longer."""


def settings_text(resolved: Resolved, asked: Scan) -> str:
    """The settings as TOML, each with its origin as a comment; other flags as comments."""
    file = resolved.file.path
    lines = [f"# configuration file: {shown(file)}" if file else "# configuration file: none"]
    lines += [_line(origin.key, origin.value, origin.source) for origin in resolved.origins]
    lines += _others(asked, {origin.key for origin in resolved.origins})
    source = shown(file) if file else ""
    for entry in resolved.examination.models:
        lines += ["", f"[models.{_quoted(entry.pattern)}]", *_entry(entry, source)]
    if resolved.policy.layer_ignores:
        lines += ["", "[per-layer-ignores]"]
    for ignore in resolved.policy.layer_ignores:
        value = f"{{ rules = {_value(list(ignore.rules))}, reason = {_quoted(ignore.reason)} }}"
        lines.append(_comment(f"{_quoted(ignore.pattern)} = {value}", source))
    for rule in resolved.file.rules:
        lines += ["", f"[rules.{find(rule.code).name}]"]
        if rule.severity:
            lines.append(_line("severity", rule.severity.value, source))
        lines += [_line(key, value, source) for key, value in rule.options.items()]
    lines += ["", *_rules(resolved), *_targets(resolved, asked.targets)]
    return "".join(f"{printable(line)}\n" for line in lines)


def _entry(entry: ModelSettings, source: str) -> Iterator[str]:
    for key in MODEL:
        value = getattr(entry, key.field)
        if value not in (None, ()):
            yield _line(key.name, dict(value) if key.reads == "arguments" else value, source)


def _others(asked: Scan, known: Collection[str]) -> Iterator[str]:
    """Flags that were given and that no file can hold, as comments."""
    values = values_of(asked)
    for entry in flags_of(Scan):
        value = values[entry.field]
        if entry.key not in known and entry.field != "show_settings" and value != entry.default:
            yield f"# {entry.name} {_value(_hidden(value))}"


def _hidden(value: Any) -> Any:
    """Without the secrets of addresses."""
    if isinstance(value, tuple):
        return [_hidden(word) for word in value]
    return place.shown(value) if isinstance(value, str) else value


def _rules(resolved: Resolved) -> Iterator[str]:
    codes = [rule.code for rule in resolved.examination.rules]
    yield f"# {len(codes)} of {len(RULES)} rules: {', '.join(codes)}"


def _targets(resolved: Resolved, targets: Sequence[str]) -> Iterator[str]:
    for target in targets:
        entry = resolved.examination.of_model(place.place_of(target))
        yield f"# {place.shown(target)}: " + (
            f"models.{_quoted(entry.pattern)}" if entry else "no entry of its own"
        )


def _line(key: str, value: Any, source: str) -> str:
    if value is None:
        return _comment(f"# {key} is not set", source)
    return _comment(f"{key} = {_value(value)}", source)


def _comment(line: str, source: str) -> str:
    return f"{line:<{_COLUMN}}  # {source}"


def _value(value: Any) -> str:
    """A value as TOML; JSON writes texts, numbers and lists of them the same way."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, Path):
        return _quoted(str(value))
    return json.dumps(value, ensure_ascii=False, default=str)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
