"""Answers against guessing."""

import pytest

from normcheck.live.hits import Answers
from normcheck.rules.data.skill import (
    at_chance,
    at_least,
    in_words,
    is_blind,
    sign_test,
    upper_end,
)


@pytest.mark.parametrize(
    ("right", "samples", "chance", "guesses"),
    [
        (22, 256, 0.1, True),  # the well-known bug: 8.6 % of ten classes
        (0, 256, 0.1, True),  # inverted input: worse than guessing
        (46, 256, 0.1, False),  # 18 %: little, and more than guessing
        (130, 256, 0.5, True),
        (160, 256, 0.5, False),
        (3, 16, 0.1, False),  # too few to tell
        (0, 16, 0.1, True),
        (9, 16, 0.5, False),
        (250, 256, 0.1, False),
        (190, 256, 0.75, True),  # nothing but the most frequent class
        (60, 60, 1.0, False),
    ],
)
def test_at_chance(right: int, samples: int, chance: float, guesses: bool) -> None:
    """Said where it is so and enough samples were there to show otherwise."""
    assert at_chance(Answers(right, samples, chance, 10)) is guesses


@pytest.mark.parametrize(
    ("right", "most_frequent", "blind"),
    [
        (256, 1.0, True),  # one class, whatever is answered
        (40, 1.0, True),
        (243, 0.95, True),  # a rare event that is never answered
        (250, 0.95, False),
        (150, 0.6, False),
    ],
)
def test_labels_that_show_no_harm(right: int, most_frequent: float, blind: bool) -> None:
    """Nearly all alike, and answering nothing else would be as good."""
    assert is_blind(Answers(right, 256, 0.5, 2, most_frequent)) is blind


def test_no_labels_no_guess() -> None:
    """Without answers nothing is at chance."""
    assert not at_chance(None)


def test_exact_tests() -> None:
    """The binomial tail, McNemar's test, and an interval that reaches no further than 1."""
    assert at_least(3, 4, 0.5) == pytest.approx(5 / 16)
    assert at_least(0, 4, 0.5) == 1
    assert sign_test(5, 0) == pytest.approx(1 / 32)
    assert sign_test(3, 3) > 0.5
    assert 0.9 < upper_end(20, 20) <= 1


def test_words_hold_a_test_and_the_number_of_samples() -> None:
    """No two accuracies side by side without what their difference is worth."""
    better = in_words(Answers(166, 256, 0.1, 10), Answers(112, 256, 0.1, 10), 10, 64)
    assert "256 labelled samples" in better
    assert "guessing gives 10 %" in better
    assert "sign test: p = " in better
    same = in_words(Answers(200, 256, 0.1, 10), Answers(203, 256, 0.1, 10), 8, 5)
    assert "no more than chance gives" in same
    both = in_words(Answers(22, 256, 0.1, 10), Answers(18, 256, 0.1, 10), 18, 22)
    assert "both are at chance, so accuracy decides nothing" in both


def test_the_most_frequent_label_is_said_where_it_beats_guessing() -> None:
    """93 % is no skill where 93 % of the labels are one class; of equal classes nothing is said."""
    one_sided = Answers(238, 256, 0.5, 2, 0.93)
    assert "always the most frequent label 93 %" in in_words(one_sided, one_sided, 0, 0)
    equal = Answers(238, 256, 0.1, 10, 0.12)
    assert "most frequent" not in in_words(equal, equal, 0, 0)
