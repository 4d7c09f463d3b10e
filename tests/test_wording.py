"""The small words of findings: plurals, folded lists, numbers and shares."""

import doctest

import pytest

from normcheck import wording
from normcheck.wording import MOST_NAMES, fold, number, percent, plural


def test_examples_in_the_docstrings() -> None:
    """What the docstrings show is what comes out."""
    outcome = doctest.testmod(wording)
    assert outcome.attempted > 0
    assert outcome.failed == 0


@pytest.mark.parametrize(
    ("count", "noun", "shown"),
    [
        (1, "layer", "1 layer"),
        (0, "layer", "0 layers"),
        (2, "layer", "2 layers"),
        (1200, "batch", "1,200 batches"),
        (1, "batch", "1 batch"),
        (3, "bias", "3 biases"),
        (2, "box", "2 boxes"),
    ],
)
def test_plural(count: int, noun: str, shown: str) -> None:
    """One, none and many, with the ending that the noun takes."""
    assert plural(count, noun) == shown


@pytest.mark.parametrize(
    ("paths", "shown"),
    [
        ([], ""),
        (["bn1"], "bn1"),
        (["a", "b", "c", "d"], "a, b, c, d"),
        (["a.0.bn", "a.1.bn", "a.2.bn"], "a.0.bn, a.1.bn, a.2.bn"),
        ([f"a.{i}.bn" for i in range(5)], "a.[0-4].bn"),
        ([f"a.{i}" for i in range(9, 14)], "a.[9-13]"),
        ([f"l{i}.{j}.n" for i in (1, 2) for j in range(3)], "l1.[0-2].n, l2.[0-2].n"),
        (["a.0", "a.2", "a.4", "a.6", "a.8"], "a.0, a.2, a.4 … a.8 (5)"),
        (["stem", "a.b", "c.d", "e.f", "g"], "stem, a.b, c.d … g (5)"),
        ([""], "the model itself"),
        (["1", "4"], "layer 1, layer 4"),
        ([str(i) for i in range(1, 7)], "layer [1-6]"),
        (["3", "fc.4"], "layer 3, fc.4"),
        (["a1", "b2", "c3", "d4", "e5"], "a1, b2, c3 … e5 (5)"),
        ([f"a{i}.{i}" for i in range(5)], "a0.0, a1.1, a2.2 … a4.4 (5)"),
        (["a.0", "a.1", "a.x", "b", "c.y"], "a.[0-1], a.x, b, c.y"),
        (["a.0.0", "a.0.1", "a.1.1", "a.2.1", "b"], "a.0.[0-1], a.[1-2].1, b"),
    ],
)
def test_fold(paths: list[str], shown: str) -> None:
    """Up to four names in full, then ranges, then the first three and the last."""
    assert fold(paths) == shown


def test_fold_never_shows_more_than_it_may() -> None:
    """However many layers there are, the line stays short and tells how many."""
    paths = [f"block{i * i}.norm{i % 3}" for i in range(500)]
    assert fold(paths).count(",") < MOST_NAMES
    assert fold(paths).endswith("(500)")


def test_fold_takes_one_number_at_a_time() -> None:
    """A range runs over one number; where two change a new one begins."""
    paths = ["a.0.0", "a.0.1", "a.1.2", "a.1.3", "a.1.4"]
    assert fold(paths) == "a.0.[0-1], a.1.[2-4]"


@pytest.mark.parametrize("digits", ["9" * 10, "1" * 5000])
def test_fold_does_not_count_enormous_numbers(digits: str) -> None:
    """A name full of digits is a name, not a number to calculate with."""
    paths = [f"a{digits}", *(f"b{i}" for i in range(5))]
    assert fold(paths) == f"a{digits}, b[0-4]"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (-0.5, "-0.5"),
        (65504.0, "65,504"),
        (999_999.0, "999,999"),
        (1e6, "1e+06"),
        (1234567.0, "1.23e+06"),
        (316.22776, "316"),
        (0.000012345, "1.23e-05"),
        (-4096, "-4,096"),
        (float("nan"), "NaN"),
        (float("inf"), "infinity"),
        (float("-inf"), "-infinity"),
    ],
)
def test_number(value: float, shown: str) -> None:
    """Three significant digits, whole numbers in full, and words for what is not finite."""
    assert number(value) == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0.59049, "59 %"),
        (0.1, "10 %"),
        (0.0985, "9.8 %"),
        (0.018, "1.8 %"),
        (0.0002, "0.02 %"),
        (0.0, "0 %"),
        (1.0, "100 %"),
    ],
)
def test_percent(share: float, shown: str) -> None:
    """As many digits as a share needs, and no more."""
    assert percent(share) == shown
