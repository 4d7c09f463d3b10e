"""What decides the result of a file, in one value that nothing changes afterwards.

The value is hashed whole for the cache and sent whole to workers: a field that is added to it
counts there, too. What is applied to results afterwards is in ``policy.py``.
"""

from __future__ import annotations

import fnmatch
import os
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.rules.catalogue import RULES, narrow
from normcheck.shown import Brief
from normcheck.sources.limits import DEFAULT_LIMITS, Limits
from normcheck.sources.place import Place, address_matches, is_remote

if TYPE_CHECKING:
    from normcheck.live.run_request import Running
    from normcheck.rules.rule import Rule


@lazy_dataclass()
class ModelSettings:
    """What a configuration file says of the models that a pattern names."""

    pattern: str
    """``checkpoints/detector-*.pt``, relative to ``root``; ``*`` stands for slashes too. A
    pattern without a slash is held against the file's name."""
    root: Path
    """Folder of the configuration file."""
    file: str = ""
    """The configuration file as messages name it; empty for an entry that a caller made, whose
    code is the caller's own."""
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

    def names(self, target: Place | str) -> bool:
        """Whether the pattern means this file, or what lies at this address."""
        if is_remote(str(target)):
            return address_matches(str(target), self.pattern)
        file = Path(target)  # type: ignore[arg-type]  # remote ones are done with
        if "/" not in self.pattern:
            return fnmatch.fnmatchcase(file.name, self.pattern)
        path = Path(os.path.abspath(file))
        words = [path.as_posix()]
        if path.is_relative_to(self.root):
            words.append(path.relative_to(self.root).as_posix())
        return any(fnmatch.fnmatchcase(word, self.pattern) for word in words)

    def code(self, running: Running) -> str:
        """What of the file's own words a run would import, each with its key."""
        named = []
        if self.model and not running.loading.model:
            named.append(f"{self.model} (model)")
        feeding = running.feeding
        # A path with a colon in it is taken for code: of the two that is the dangerous one.
        may_be_code = ":" in os.path.splitdrive(self.data or "")[1]
        if may_be_code and feeding.data is None and not feeding.shapes:
            named.append(f"{self.data} (data)")
        return " and ".join(named) if self.file else ""

    @property
    def exactness(self) -> int:
        """How many characters of the pattern stand for themselves."""
        return sum(character not in "*?[]" for character in self.pattern)


@lazy_dataclass()
class HeldBack:
    """A run that was asked for and is not done: it would import what only a file names."""

    why: str
    """What would be imported, and which file says so."""


@lazy_dataclass(repr=False)
class Examination(Brief):
    """How files and live models are examined: by which rules and which run, within which bounds."""

    rules: tuple[Rule, ...] = RULES
    running: Running | None = None
    """How to run the models; None to read files only."""
    limits: Limits = field(default=DEFAULT_LIMITS)
    redirects: tuple[str, ...] = ()
    """Hosts that the server of a web address may redirect to; ``*.`` stands for all below one."""
    weights_budget: int | None = None
    """Bytes of weights that are read for one model, to see whether statistics belong to them;
    None for 256 MB of a local file and 64 MB of a remote one."""
    models: tuple[ModelSettings, ...] = ()
    """What differs for some files."""

    def of_model(self, file: Place | str) -> ModelSettings | None:
        """The entry for a file or an address; None without one.

        Of several the one with the most exact pattern, of equals the first.
        """
        found = [entry for entry in self.models if entry.names(file)]
        return max(found, key=lambda entry: entry.exactness, default=None)

    def running_of(self, file: Place | str) -> Running | HeldBack | None:
        """How a file is run: as the run says, and where it says nothing as the file's entry does.

        An entry alone runs nothing: it names code to import, and a configuration file in a
        folder that somebody scans must not decide that it is. Nor does ``--run`` let it: what
        only a configuration file names is imported where the run trusts that file.
        """
        entry, running = self.of_model(file), self.running
        if running is None or entry is None:
            return running
        code = entry.code(running)
        if code and not running.trust_config:
            return HeldBack(f'{entry.file} would import {code}, for models."{entry.pattern}"')
        loading, feeding = running.loading, running.feeding
        if not loading.model and entry.model:
            loading = replace(loading, model=entry.model, arguments=dict(entry.model_args))
        if feeding.data is None and not feeding.shapes:
            shape = "x".join(map(str, entry.input_shape or ()))
            feeding = replace(
                feeding,
                data=entry.data,
                shapes=(shape,) if shape else (),
                imports=running.trust_config or not entry.file,
            )
        if not feeding.batch_size and entry.batch_size:
            feeding = replace(feeding, batch_size=entry.batch_size)
        device = entry.device if entry.device and running.device == "cpu" else running.device
        return replace(running, loading=loading, feeding=feeding, device=device)

    def rules_of(self, file: Place | str) -> tuple[Rule, ...]:
        """The rules that judge a file: those of the run, narrowed by its entry."""
        entry = self.of_model(file)
        if entry is None:
            return self.rules
        return narrow(self.rules, list(entry.select) or ["ALL"], list(entry.ignore))
