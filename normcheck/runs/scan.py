"""One scan: every target examined, the policy applied to what comes of it, a report in order."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normcheck.config.examination import Examination
from normcheck.config.policy import Policy
from normcheck.errors import UnreadableError
from normcheck.findings import Failure
from normcheck.fleet.engine import examined
from normcheck.fleet.file_task import FileTask
from normcheck.fleet.fleet_request import Fleet
from normcheck.formats.targets import PassedOver, Target, expand_all
from normcheck.live.run_request import Running
from normcheck.pipeline.examine import examine_object
from normcheck.pipeline.given import Given, check_kinds, targets_in
from normcheck.pipeline.report_parts import empty_report, part_of
from normcheck.pipeline.results import FileResult, passed_over, renamed
from normcheck.pipeline.suppress import Sieve
from normcheck.report.part import Part
from normcheck.report.report import Report, joined
from normcheck.sources.place import shown

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping

    from torch import nn
    from torch.export import ExportedProgram

    from normcheck.report.form import Wish

    Object = nn.Module | Mapping[str, Any] | ExportedProgram
    Targets = Iterable[str | Path | Object] | str | Path | Object


def scan(
    targets: Targets,
    examination: Examination | None = None,
    policy: Policy | None = None,
    *,
    data: Any = None,
    fleet: Fleet | None = None,
    wishes: frozenset[Wish] = frozenset(),
) -> Report:
    """Scan saved or live models and say what is wrong with their normalization layers.

    Files are read without running anything of theirs, and torch is not imported, unless
    ``examination.running`` asks for a run. A live module is run, and left bit for bit as it was.

    Args:
        targets: Files, folders (by names and first bytes), patterns; live modules; state dicts,
            also within dictionaries as a training script saves them; exported programs. One of
            these, or an iterable of several.
        examination: Which rules judge, and whether and how models are run; by default every
            rule, without a run.
        policy: What of the findings counts, and which of them fail the run.
        data: What to feed: a ``DataLoader``, a ``Dataset``, tensors, arrays, or any iterable of
            batches, with or without labels. With it the models are run.
        fleet: How many processes or machines share the files, and where results are kept for
            the next run; by default this process alone, and nowhere.
        wishes: What an output wants besides (``form_of(name).needs``, ``fit_figure.NEEDS``).

    Returns:
        The report, the same whoever did the work. A target that could not be read or run is
        one of its ``errors``; the others are scanned all the same.

    Raises:
        NormcheckError: A target is nothing that can be scanned (None, a tensor, a dictionary
            without a model), or ``examination`` or ``policy`` is of another kind.
    """
    check_kinds(examination, policy)
    asked, wanted = examination or Examination(), policy or Policy()
    if data is not None:
        running = asked.running or Running()
        feeding = replace(running.feeding, data=data)
        asked = replace(asked, running=replace(running, feeding=feeding))
    with closing(parts(targets, asked, wanted, fleet=fleet, wishes=wishes)) as stream:
        return joined(empty_report(asked, wanted), (part.report for part in stream))


def parts(
    targets: Targets,
    examination: Examination | None = None,
    policy: Policy | None = None,
    *,
    fleet: Fleet | None = None,
    wishes: frozenset[Wish] = frozenset(),
) -> Generator[Part, None, None]:
    """A part of the report for each target, as soon as it and all before it are done.

    One more at the end holds what only the whole run can tell: suppressions that matched nothing.
    Nothing of a part is kept here, so memory does not grow with the number of files.
    Close the iterator to stop the run.

    Args:
        targets: As for ``scan``.
        examination: Which rules judge, and whether and how models are run.
        policy: What of the findings counts.
        fleet: How the work is shared out.
        wishes: What the outputs need of each file while it is read.
    """
    examination, policy = examination or Examination(), policy or Policy()
    task = FileTask(examination, wishes)
    sieve, empty = Sieve(policy, examination.rules), empty_report(examination, policy)
    work = _walked(targets_in(targets), task)
    with closing(examined(work, task, fleet or Fleet())) as results:
        for result in results:
            yield part_of(result, sieve, empty)
    yield Part.of(replace(empty, unused=sieve.unused()))


def _walked(given: Iterator[tuple[Given, Any]], task: FileTask) -> Iterator[Target | FileResult]:
    """The files under the targets, found while the run goes on; and what needs no reading."""
    seen: set[str] = set()
    first = True
    names: Counter[str] = Counter()
    for kind, target, last in _with_last(given):
        if kind is not Given.FILE:
            for result in examine_object(kind, target, task.examination, task.wishes):
                yield _told_apart(result, names)
            continue
        # A single word means no file twice, and memory must not grow with the files.
        alone, first = first and last, False
        word = os.fspath(target)
        try:
            word = word if isinstance(word, str) else os.fsdecode(word)
            for found in expand_all([word], task.examination.redirects):
                name = str(found.path)
                if name in seen:
                    continue
                if not alone:
                    seen.add(name)
                yield found if isinstance(found, Target) else _passed_over(found)
        except UnreadableError as error:
            name = shown(str(target))
            yield FileResult(name, errors=(Failure(name, error.message, error.hint),))


def _passed_over(found: PassedOver) -> FileResult:
    """Counted, and named on demand; no lack that ``--strict`` minds, for nobody asked for it."""
    name = str(found.path)
    return passed_over(name, found.why, unasked=True)


def _with_last(
    given: Iterator[tuple[Given, Any]],
) -> Iterator[tuple[Given, Any, bool]]:
    """Each target with whether it is the last, which is known only of those that are at hand."""
    following = next(given, None)
    while following is not None:
        kind, target = following
        following = next(given, None)
        yield kind, target, following is None


def _told_apart(result: FileResult, names: Counter[str]) -> FileResult:
    """The same under a name of its own: two models of one class are two models of the report."""
    names[result.target] += 1
    count = names[result.target]
    return result if count == 1 else renamed(result, f"{result.target} ({count})")
