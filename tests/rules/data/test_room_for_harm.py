"""How much harm labels leave room for where they show none, and what is said of that."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from normcheck.findings import Severity
from normcheck.live.hits import Answers
from normcheck.rules.data_verdict import judged
from normcheck.rules.harm import Harm
from normcheck.rules.room_for_harm import TOO_MUCH, leaves_room, most_lost
from tests.rules.data.test_harm_by_losses import measured

if TYPE_CHECKING:
    from normcheck.live.measurement import AgainstData


def answered(
    healed: int, harmed: int, *, samples: int = 256, right: float = 0.55, share: float = 0.5
) -> AgainstData:
    """Labelled answers of which so many change under re-estimated statistics."""
    stored = Answers(round(right * samples), samples, 0.1, 10, 0.12)
    return replace(
        measured(0.0, 0.0, healed=healed, harmed=harmed, share=share),
        answers=stored,
        given_answers=replace(stored, right=stored.right + healed - harmed),
    )


@pytest.mark.parametrize(("lost", "samples"), [(0.03, 256), (0.0, 256), (0.02, 1024), (-0.01, 64)])
def test_the_upper_end_lies_above_the_truth_as_often_as_it_says(lost: float, samples: int) -> None:
    """19 of 20 draws, of answers of which an eighth changes."""
    random = np.random.default_rng(7)
    changes = 0.12
    shares = [(changes + lost) / 2, (changes - lost) / 2, 1 - changes]
    drawn = random.multinomial(samples, shares, size=2000)
    ends = [most_lost(answered(int(b), int(c), samples=samples)) for b, c, _ in drawn]
    covered = np.mean([end is not None and end >= lost for end in ends])
    assert 0.93 <= covered <= (1.0 if lost <= 0 else 0.985)


def test_no_answer_that_changed_is_no_certainty() -> None:
    few, many = most_lost(answered(0, 0, samples=40)), most_lost(answered(0, 0, samples=1000))
    assert few is not None
    assert many is not None
    assert 0 < many < 0.003 < few


def test_what_has_no_answers_has_no_such_end() -> None:
    assert most_lost(measured(0.0, 0.0)) is None
    assert not leaves_room(measured(0.0, 0.0))


@pytest.mark.parametrize(
    ("healed", "harmed", "samples", "harm"),
    [
        (15, 9, 256, Harm.OPEN),  # of a layer that is 0.7 deviations off, at a cost of 3 points
        (13, 12, 256, Harm.OPEN),
        (3, 3, 256, Harm.NONE),
        (1, 0, 256, Harm.NONE),
        (47, 46, 1024, Harm.NONE),  # the same share of changes, and four times the samples
        (9, 30, 256, Harm.STORED_RIGHT),
        (50, 9, 256, Harm.PROVEN),
    ],
)
def test_harm_is_excluded_only_where_answers_hardly_change_or_samples_are_many(
    healed: int, harmed: int, samples: int, harm: Harm
) -> None:
    assert judged(answered(healed, harmed, samples=samples), labelled=True).harm is harm


def test_norms_that_lie_on_the_data_leave_nothing_open() -> None:
    """Whatever answers change by estimating from so few: nothing is off that could cost them."""
    assert judged(answered(15, 9, share=0.0), labelled=True).harm is Harm.NONE


def test_an_open_verdict_says_what_may_be_lost() -> None:
    data = answered(15, 9)
    verdict = judged(data, labelled=True)
    lost = most_lost(data)
    assert lost is not None
    assert lost > TOO_MUCH
    assert f"{100 * lost:.2g} % of accuracy (95 %)" in verdict.text
    assert verdict.severity[0] is Severity.INFO
