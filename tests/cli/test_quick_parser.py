"""Words that are understood without Typer mean what Typer takes them for."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normcheck.cli.app import app
from normcheck.cli.commands import scan_command as command
from normcheck.cli.commands.scan_command import ScanWords
from normcheck.cli.flags.run_words import RunWords
from normcheck.cli.flags.shared_flags import Color, FailOn, MinConfidence, MinSeverity, OutputFormat
from normcheck.cli.quick_parser import _CHOICES, _SWITCHES, _VALUES, scan_words


def by_typer(words: list[str]) -> ScanWords | None:
    """What Typer makes of the words; None where it refuses them."""
    seen: list[ScanWords] = []

    def caught(words: ScanWords) -> int:
        seen.append(words)
        return 0

    original, command.run_scan = command.run_scan, caught
    try:
        app(args=["scan", *words], prog_name="normcheck", standalone_mode=False)
    except Exception:
        return None
    finally:
        command.run_scan = original
    return seen[0] if seen else None


def compared(words: ScanWords) -> Any:
    """The words with lists for every kind of sequence, and without a run that nobody asks for."""
    assert words.run in (None, RunWords())
    flags = {
        name: list(value) if isinstance(value, tuple | list) else value
        for name in words.flags.__slots__
        for value in (getattr(words.flags, name),)
    }
    return replace(words, run=None, flags=flags, targets=list(words.targets), limits=())  # type: ignore[arg-type]


WORDS = st.one_of(
    st.sampled_from([*_SWITCHES, *_VALUES]),
    st.sampled_from(["-", "--", "-vq", "-fjson", "--run", "--help", "", "model.pt"]),
    st.sampled_from(["2", "0", "-1"]),
    st.sampled_from([choice for choices in _CHOICES.values() for choice in choices]),
    st.builds("{}={}".format, st.sampled_from([*_VALUES, *_SWITCHES]),
              st.sampled_from(["json", "error", "high", "3", "", "-", "a=b", "never"])),
)  # fmt: skip


@given(st.lists(WORDS, max_size=8))
def test_typer_takes_plain_words_for_the_same(words: list[str]) -> None:
    """Whatever is understood here; all else is left to it."""
    quick = scan_words(words)
    if quick is not None:
        typer = by_typer(words)
        assert typer is not None
        assert compared(quick) == compared(typer)


@pytest.mark.parametrize("flag", [*_SWITCHES, *_VALUES])
def test_each_flag_is_understood(flag: str) -> None:
    """With each value that it may have, before and behind the target."""
    about = _VALUES.get(flag)
    values = _CHOICES.get(about or "", ("3",))
    for value in values:
        words = [flag, value] if about else [flag]
        for order in (["a.pt", *words], [*words, "a.pt"], [*words, *words, "a.pt"]):
            quick, typer = scan_words(order), by_typer(order)
            assert quick is not None
            assert typer is not None
            assert compared(quick) == compared(typer)
            assert compared(quick) != compared(ScanWords(["a.pt"])) or value == "auto"


@pytest.mark.parametrize(
    "words",
    [
        ["--help"], ["-h"], ["a.pt", "--run"], ["a.pt", "--form", "json"], ["a.pt", "-f", "xml"],
        ["a.pt", "-f"], ["a.pt", "--jobs", "0"], ["a.pt", "--jobs", "two"], ["a.pt", "-vv"],
        ["a.pt", "--jobs", "²"], ["a.pt", "-o", "-q"], ["--", "-a.pt"], ["a.pt", "--fail-on", ""],
        ["a.pt", "--strict", "--no-strict"], ["a.pt", "-f=json"], ["a.pt", "--quiet=1"],
    ],
)  # fmt: skip
def test_what_needs_explaining_is_left_to_typer(words: list[str]) -> None:
    """Errors and help are its own."""
    assert scan_words(words) is None


def test_choices_are_those_of_the_flags() -> None:
    """None more and none less."""
    for about, kind in (
        ("formats", OutputFormat), ("fail_on", FailOn), ("color", Color),
        ("min_severity", MinSeverity), ("min_confidence", MinConfidence),
    ):  # fmt: skip
        assert set(_CHOICES[about]) == {member.value for member in kind}
