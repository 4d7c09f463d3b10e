"""One run: every target examined, what is known already left out, a report in stable order."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from normcheck.config.settings import Settings
from normcheck.errors import UnreadableError
from normcheck.findings import Failure
from normcheck.fleet.engine import examined
from normcheck.fleet.fleet_request import Fleet
from normcheck.live.run_request import Running
from normcheck.pipeline.examine import examine_module
from normcheck.pipeline.report_parts import part_of
from normcheck.pipeline.results import FileResult
from normcheck.pipeline.suppress import Sieve
from normcheck.report.part import Part
from normcheck.report.report import Report, joined
from normcheck.sources.place import shown
from normcheck.sources.targets import Target, expand
from normcheck.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from torch import nn

    Targets = Iterable[str | Path | nn.Module] | str | Path | nn.Module


def scan(
    targets: Targets,
    settings: Settings | None = None,
    *,
    data: Any = None,
    fleet: Fleet | None = None,
) -> Report:
    """Scan saved or live models and say what is wrong with their normalization layers.

    Files are read without running anything of theirs, and torch is not imported, unless
    ``settings.running`` asks for a run. A live module is run, and left bit for bit as it was.

    Args:
        targets: Files, folders (searched by extension), patterns, and live modules; or one of
            them.
        settings: What to check, and whether and how to run; by default every rule, without.
        data: What to feed: a ``DataLoader``, a ``Dataset``, tensors, arrays, or any iterable of
            batches, with or without labels. With it the models are run.
        fleet: How many processes or machines share the files, and where results are kept for
            the next run; by default this process alone, and nowhere.

    Returns:
        The report, the same whoever did the work. A target that could not be read or run is
        one of its ``errors``; the others are scanned all the same.
    """
    chosen = settings or Settings()
    if data is not None:
        running = chosen.running or Running()
        feeding = replace(running.feeding, data=data)
        chosen = replace(chosen, running=replace(running, feeding=feeding))
    empty = Report(VERSION, (), (), (), (), (), (), chosen.rules, chosen.fail_on)
    with closing(parts(targets, chosen, fleet)) as stream:
        return joined(empty, (part.report for part in stream))


def parts(
    targets: Targets, settings: Settings, fleet: Fleet | None = None
) -> Generator[Part, None, None]:
    """A part of the report for each target, as soon as it and all before it are done.

    One more at the end holds what only the whole run can tell: suppressions that matched nothing.
    Nothing of a part is kept here, so memory does not grow with the number of files.
    Close the iterator to stop the run.

    Args:
        targets: As for ``scan``.
        settings: What to check.
        fleet: How the work is shared out.
    """
    sieve = Sieve(settings)
    empty = Report(VERSION, (), (), (), (), (), (), settings.rules, settings.fail_on)
    with closing(examined(_walked(targets, settings), settings, fleet or Fleet())) as results:
        for result in results:
            yield part_of(result, sieve, empty)
    yield Part.of(replace(empty, unused=sieve.unused()))


def is_module(value: object) -> TypeGuard[nn.Module]:
    """Whether a target is a live ``nn.Module``; torch is there if one is."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def _walked(targets: Targets, settings: Settings) -> Iterator[Target | FileResult]:
    """The files under the targets, found while the run goes on; and what needs no reading."""
    single = isinstance(targets, str | Path) or is_module(targets)
    # A single word means no file twice, and memory must not grow with the files.
    seen: set[str] | None = None if single or _one(targets) else set()
    for target in [targets] if single else targets:  # type: ignore[union-attr]  # not a single one
        if is_module(target):
            yield examine_module(target, settings)
            continue
        try:
            for found in expand([str(target)]):
                if seen is not None:
                    name = str(found.path)
                    if name in seen:
                        continue
                    seen.add(name)
                yield found
        except UnreadableError as error:
            name = shown(str(target))
            yield FileResult(name, errors=(Failure(name, error.message, error.hint),))


def _one(targets: object) -> bool:
    return isinstance(targets, list | tuple) and len(targets) == 1
