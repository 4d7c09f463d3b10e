"""Skipped rules travel those of one reason together, and are the same entries where they arrive."""

from dataclasses import replace
from typing import Any

import pytest

from normcheck.config.examination import Examination
from normcheck.config.policy import Policy
from normcheck.errors import DamagedError, NormcheckError
from normcheck.findings import Skipped
from normcheck.live.process.wire import read, written
from normcheck.pipeline.report_parts import empty_report, part_of
from normcheck.pipeline.results import FileResult, packed, skipped_of
from normcheck.pipeline.suppress import Sieve
from normcheck.report.skipped_rules import Gathered, SkippedEntries, together
from normcheck.report.tally import Tally

ENTRIES = (
    Skipped("a.pt", "model", "NC101", "needs a run", "--run", unasked=True),
    Skipped("a.pt", "model", "NC108", "too little is predicted"),
    Skipped("a.pt", "model", "NC201", "needs a run", "--run", unasked=True),
    Skipped("a.pt", "ema", "NC101", "needs a run", "--run", unasked=True),
    Skipped("a.pt", "ema", "NC105", "needs a run", "--run", unasked=False),
)


def _arrived(result: FileResult) -> FileResult:
    return read(written(packed(result)), FileResult)


def test_the_same_entries_arrive_in_their_order() -> None:
    """Of several models, and of one reason that another flag gives and that it does not."""
    arrived = _arrived(FileResult("a.pt", skipped=together(ENTRIES)))
    assert len(arrived.skipped) == 4
    entries = skipped_of(arrived)
    assert len(entries) == len(ENTRIES)
    assert tuple(entries) == ENTRIES
    assert entries[1] == ENTRIES[1]


@pytest.mark.parametrize(
    "entries", [ENTRIES, (), (Skipped("b", "", "", "no model", unasked=True),)]
)
def test_they_are_counted(entries: tuple[Skipped, ...]) -> None:
    """By rule, by remedy, and of files that were passed over."""
    sieve, empty = Sieve(Policy(), Examination().rules), empty_report(Examination(), Policy())
    tally = Tally()
    part = part_of(_arrived(FileResult("a.pt", skipped=together(entries))), sieve, empty)
    tally.add(part)
    assert tuple(part.rest.skipped) == entries
    assert tally.skipped == len(entries)
    assert tally.missed == sum(not entry.unasked for entry in entries)
    assert tally.passed_over == sum(not entry.rule for entry in entries)
    assert set().union(*tally.needs.values()) == {entry.rule for entry in entries if entry.rule}


def test_groups_are_not_taken_apart_to_be_grouped_again() -> None:
    """What only counts them never makes the entries."""
    groups = together(ENTRIES)
    assert together(SkippedEntries(groups)) is groups


def test_what_could_not_judge_one_model() -> None:
    """Of several models of a file, and of several files."""
    gathered = Gathered()
    for e in ENTRIES:
        gathered.add(e.model, e.where, e.rule, e.reason, e.remedy, e.unasked)
    assert gathered.rules_of("a.pt", "model") == {"NC101", "NC108", "NC201"}
    assert gathered.rules_of("a.pt", "ema") == {"NC101", "NC105"}
    assert gathered.rules_of("b.pt", "ema") == set()
    assert gathered.groups() == together(ENTRIES)


@pytest.mark.parametrize("change", [{"places": (0,)}, {"rules": (), "places": ()}])
def test_what_nobody_wrote_here_is_an_error(change: dict[str, Any]) -> None:
    """A process that was taken over, or a cache that somebody else made, ends in a message."""
    good = packed(FileResult("a.pt", skipped=together(ENTRIES)))
    bad = replace(good, skipped=(replace(good.skipped[0], **change),))
    with pytest.raises(DamagedError):
        skipped_of(bad)
    with pytest.raises(NormcheckError, match=r"a\.pt: its cached result makes no sense"):
        part_of(bad, Sieve(Policy(), ()), empty_report(Examination(), Policy()))
