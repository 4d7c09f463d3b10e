"""The findings that are known already: so that a run fails for new ones only.

A baseline has one entry for a rule and a layer. A finding that gains a layer is therefore
known for its old layers and new for the one that came. Entries hold no measured number,
and model paths are relative to the baseline's own folder, so that training on, reordering
layers and moving the whole folder change nothing.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from normcheck.errors import UsageError
from normcheck.findings import Finding
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.report.machines.json_text import json_text, spelt

VERSION = 1
_WRITE_AGAIN = "write it again with: normcheck scan TARGET --write-baseline"


@lazy_dataclass(order=True)
class KnownFinding:
    """One known finding on one layer; ``layer`` is None for a finding that names none."""

    model: str
    where: str
    rule: str
    layer: str | None
    discriminator: str = ""
    message: str = ""
    """For people who read the file; not part of the identity."""

    @property
    def key(self) -> tuple[str, str, str, str | None, str]:
        """What makes two entries the same."""
        return (self.rule, self.model, self.where, self.layer, self.discriminator)

    @property
    def fingerprint(self) -> str:
        """A hash of the key: 16 hexadecimal digits, the same on every machine."""
        import hashlib  # a scan without a baseline need not load OpenSSL

        text = json.dumps(self.key, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@lazy_dataclass()
class Baseline:
    """A baseline that was read or is about to be written."""

    path: Path
    entries: tuple[KnownFinding, ...]

    @property
    def folder(self) -> Path:
        """Where model paths are relative to."""
        return Path(os.path.abspath(self.path)).parent

    def name_of(self, target: str) -> str:
        """A model's path as entries have it."""
        if "://" in target:
            return spelt(target)
        path = os.path.abspath(target)
        try:
            return spelt(Path(os.path.relpath(path, self.folder)).as_posix())
        except ValueError:  # another drive
            return spelt(Path(path).as_posix())

    def entries_of(self, findings: Iterable[Finding]) -> tuple[KnownFinding, ...]:
        """One entry for each layer of each finding, sorted, without doubles."""
        made = {entry.key: entry for finding in findings for entry in self._of(finding)}
        return tuple(sorted(made.values(), key=_order))

    def _of(self, finding: Finding) -> list[KnownFinding]:
        layers: Sequence[str | None] = finding.layers or (None,)
        entry = KnownFinding(
            model=self.name_of(finding.model),
            where=spelt(finding.where),
            rule=finding.rule,
            layer=None,
            discriminator=finding.discriminator,
            message=spelt(finding.title),
        )
        return [replace(entry, layer=None if layer is None else spelt(layer)) for layer in layers]


class Matcher:
    """Tells known findings from new ones, and remembers which entries were seen."""

    def __init__(self, baseline: Baseline) -> None:
        """Start with no entry seen."""
        self._baseline = baseline
        self._known = {entry.key: entry for entry in baseline.entries}
        self._seen: set[tuple[str, str, str, str | None, str]] = set()
        self._moved = self._of_lost_files()
        self._about = {(entry.model, entry.rule) for entry in baseline.entries}

    def mentions(self, target: str, rule: str) -> bool:
        """Whether any entry is about what a rule finds in a target."""
        return (self._baseline.name_of(target), rule) in self._about

    def _of_lost_files(self) -> dict[tuple[str, str], list[str]]:
        """Models of the baseline whose file is gone, by rule and file name.

        A file of the same name that turns up elsewhere is taken for the one that moved.
        """
        lost: dict[tuple[str, str], list[str]] = {}
        pairs = {(entry.model, entry.rule) for entry in self._baseline.entries}
        gone = {
            model
            for model in {model for model, _ in pairs}
            if "://" not in model and not (self._baseline.folder / model).exists()
        }
        for model, rule in sorted(pairs):
            if model in gone:
                lost.setdefault((rule, model.rpartition("/")[2]), []).append(model)
        return lost

    def knows(self, finding: Finding, layer: str | None) -> bool:
        """Whether a finding is known for one of its layers."""
        name = self._baseline.name_of(finding.model)
        file = name.rpartition("/")[2]
        moved = sorted(
            self._moved.get((finding.rule, file), ()), key=lambda old: -_common_end(old, name)
        )
        where, path = spelt(finding.where), None if layer is None else spelt(layer)
        for model in (name, *moved):
            key = (finding.rule, model, where, path, finding.discriminator)
            if key in self._known:
                self._seen.add(key)
                return True
        return False

    def unseen(self, judged: Iterable[tuple[str, str]]) -> tuple[KnownFinding, ...]:
        """Entries that matched nothing although their rule judged their model.

        Args:
            judged: Target and rule code of everything that really ran.
        """
        ran = {(self._baseline.name_of(target), rule) for target, rule in judged}
        return tuple(
            entry
            for entry in self._baseline.entries
            if entry.key not in self._seen and (entry.model, entry.rule) in ran
        )


def read_baseline(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        UsageError: It is missing, or not what ``--write-baseline`` writes.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{path}: there is no such baseline", _WRITE_AGAIN) from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not a baseline, it is not JSON", _WRITE_AGAIN) from error
    if not isinstance(value, dict) or not isinstance(value.get("entries"), list):
        raise UsageError(f"{path}: not a baseline, it has no list of entries", _WRITE_AGAIN)
    if value.get("version") != VERSION:
        raise UsageError(
            f"{path}: a baseline of version {value.get('version')!r:.20}, this normcheck reads "
            f"version {VERSION}",
            _WRITE_AGAIN,
        )
    entries = [_entry(path, number, entry) for number, entry in enumerate(value["entries"], 1)]
    return Baseline(path, tuple(entries))


def _entry(path: Path, number: int, value: Any) -> KnownFinding:
    fields = ("model", "where", "rule", "layer", "discriminator", "message")
    texts: dict[str, Any] = {}
    if isinstance(value, dict):
        texts = {name: value.get(name) for name in fields}
    sound = all(isinstance(t, str) or (n == "layer" and t is None) for n, t in texts.items())
    if not texts or not sound:
        raise UsageError(f"{path}: entry {number} is damaged", _WRITE_AGAIN)
    entry = KnownFinding(**texts)
    if entry.fingerprint != value.get("fingerprint"):
        raise UsageError(
            f"{path}: the fingerprint of entry {number} does not fit the entry",
            f"entries can be removed, but not edited; {_WRITE_AGAIN}",
        )
    return entry


def render_baseline(baseline: Baseline) -> str:
    """The file's text: sorted, one field a line, so that a change reads well in a review."""
    entries = [
        {
            "fingerprint": entry.fingerprint,
            "rule": entry.rule,
            "model": entry.model,
            "where": entry.where,
            "layer": entry.layer,
            "discriminator": entry.discriminator,
            "message": entry.message,
        }
        for entry in sorted(baseline.entries, key=_order)
    ]
    value = {"version": VERSION, "entries": entries}
    return json_text(value)


def renewed(
    old: Baseline | None, path: Path, findings: Iterable[Finding], judged: Iterable[tuple[str, str]]
) -> Baseline:
    """The baseline after a run: what was found now, and what was not looked at.

    Args:
        old: What is there so far.
        path: Where the new one will be.
        findings: All that should be known from now on.
        judged: Target and rule code of everything that ran; entries of the rest are kept.
    """
    empty = Baseline(path, ())
    ran = {(empty.name_of(target), rule) for target, rule in judged}
    kept = [entry for entry in (old.entries if old else ()) if (entry.model, entry.rule) not in ran]
    entries = {entry.key: entry for entry in (*kept, *empty.entries_of(findings))}
    return Baseline(path, tuple(sorted(entries.values(), key=_order)))


def _order(entry: KnownFinding) -> tuple[str, str, str, str, str]:
    return (entry.model, entry.where, entry.rule, entry.layer or "", entry.discriminator)


def _common_end(one: str, other: str) -> int:
    """How many trailing parts two paths share."""
    count = 0
    for a, b in zip(reversed(one.split("/")), reversed(other.split("/")), strict=False):
        if a != b:
            break
        count += 1
    return count
