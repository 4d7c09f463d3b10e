"""Patterns that are compiled with their first use."""

import copy
import re

import pytest

from normcheck.lazy_pattern import lazy_pattern
from normcheck.norms.recognise.known_momenta import KNOWN, known_library


def test_it_does_what_the_pattern_does() -> None:
    """Every method, with flags, for text and for bytes."""
    lazy, pattern = lazy_pattern("a(b+)", re.IGNORECASE), re.compile("a(b+)", re.IGNORECASE)
    for text in ("xABBy", "ab", "", "b"):
        for method in ("search", "match", "fullmatch"):
            one, two = getattr(lazy, method)(text), getattr(pattern, method)(text)
            assert (one and one.groups()) == (two and two.groups())
        assert lazy.findall(text) == pattern.findall(text)
        assert lazy.sub("-", text) == pattern.sub("-", text)
    assert lazy.pattern == pattern.pattern
    assert lazy_pattern(rb"\d+").findall(b"1 22") == [b"1", b"22"]


def test_it_is_compiled_once_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making one costs nothing; a method is asked of the pattern once."""
    compiled = []

    def counted(text: str, flags: int) -> re.Pattern[str]:
        compiled.append(text)
        return original(text, flags)

    original = re.compile
    monkeypatch.setattr("normcheck.lazy_pattern.re.compile", counted)
    lazy = lazy_pattern("zyx+")
    assert not compiled
    assert lazy.search("zyxx")
    assert lazy.search("wzyx")
    assert compiled == ["zyx+"]


def test_it_can_be_copied() -> None:
    """What copies an object asks it for methods that a pattern has no use for."""
    assert copy.copy(lazy_pattern("ab")).search("cab")


def test_a_wrong_expression_shows_with_its_first_use() -> None:
    """As ``re.compile`` says it."""
    with pytest.raises(re.error):
        lazy_pattern("(").search("")


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.library)
def test_names_of_a_library_pass_the_first_look(known: object) -> None:
    """A row whose names end otherwise than the first look expects would never be found."""
    names = [re.sub(r"\(.*?\)", "", p.pattern.replace(".*", ".").replace("\\", "").rstrip("$"))
             for p in known.names]  # type: ignore[attr-defined]  # fmt: skip
    assert known_library([f"x.{name.lstrip('.')}" for name in names]) is known
