"""Verdicts on networks that are trained here and now: rates, not single trajectories.

The whole bench is ``benchmarks/run_verdicts.py``; this is the part of it that takes seconds.
"""

import pytest

from benchmarks.run_verdicts import Said, is_harmless, judged

pytestmark = pytest.mark.kernels

JOBS = [("perceptron", "digits", 0), ("perceptron", "patches", 1), ("deep perceptron", "digits", 2)]


@pytest.fixture(scope="module")
def said() -> list[Said]:
    """What scans said of all cases of three networks."""
    return [entry for job in JOBS for entry in judged(job)]


def test_false_alarms_are_rare(said: list[Said]) -> None:
    """Healthy networks and look-alikes: the bench has under 1 %; room for two here."""
    harmless = [entry for entry in said if is_harmless(entry)]
    assert len(harmless) > 40
    alarms = [entry for entry in harmless if entry.alarm]
    assert len(alarms) <= 2, alarms


def test_harm_is_found(said: list[Said]) -> None:
    """Above five points of damage with labels nearly always; from two on mostly."""
    large = [entry for entry in said if entry.labelled and entry.sick and entry.damage >= 5]
    middle = [entry for entry in said if entry.labelled and entry.sick and 2 <= entry.damage < 5]
    assert len(large) >= 6
    missed = [entry for entry in large if not entry.loud]
    assert len(missed) <= len(large) // 6, missed
    found = [entry for entry in (*large, *middle) if entry.loud]
    assert len(found) >= 0.7 * len((*large, *middle))


def test_wrong_input_is_told_from_wrong_statistics(said: list[Said]) -> None:
    """Pixels four times too bright are named as what they are, mostly, where labels suffer."""
    bright = [s for s in said if s.kind == "input four times too bright" and s.labelled]
    assert sum("NC404" in entry.loud for entry in bright) >= len(bright) - 1


def test_lost_statistics_are_always_loud(said: list[Said]) -> None:
    """Statistics at 0 and 1, with labels or without."""
    assert all(entry.loud for entry in said if entry.kind == "lost")
