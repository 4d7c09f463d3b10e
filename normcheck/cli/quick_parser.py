"""``normcheck scan`` with its commonest flags, told without Typer.

Typer makes a validator for each of some fifty flags before it looks at one, with pydantic: that
takes as long as the scan of a small checkpoint with all that it imports. So words of which every
single one is plain are understood here. Whatever is not (a flag that asks for a run, an
abbreviation, a value that is none of those allowed, ``--help``) is Typer's, with all of the words:
it alone explains, and says what is wrong. The two are held against each other in the tests.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from normcheck.config.keys import CONFIDENCES, FORMATS, SEVERITIES

if TYPE_CHECKING:
    from normcheck.cli.commands.scan_command import ScanWords

_SWITCHES = {
    "--exit-zero": "exit_zero", "-e": "exit_zero", "--isolated": "isolated",
    "--quiet": "quiet", "-q": "quiet", "--verbose": "verbose", "-v": "verbose",
    "--strict": "strict", "--no-strict": "no_strict", "--statistics": "statistics",
}  # fmt: skip
_VALUES = {
    "--format": "formats", "-f": "formats", "--output-format": "formats",
    "--output-file": "outputs", "-o": "outputs",
    "--select": "select", "--extend-select": "extend_select", "--ignore": "ignore",
    "--min-severity": "min_severity", "--min-confidence": "min_confidence",
    "--fail-on": "fail_on", "--baseline": "baseline", "--config": "config", "--cache": "cache",
    "--jobs": "jobs", "-j": "jobs", "--weights-budget": "weights_budget", "--color": "color",
}  # fmt: skip
_CHOICES = {
    "formats": FORMATS, "min_severity": SEVERITIES, "min_confidence": CONFIDENCES,
    "fail_on": ("error", "warning"), "color": ("auto", "always", "never"),
}  # fmt: skip
_MOST_DIGITS = 6
"""Of a number of processes."""


def scan_words(words: Sequence[str]) -> "ScanWords | None":
    """What the words behind ``normcheck scan`` ask for; None where Typer has to look at them."""
    targets: list[str] = []
    given: defaultdict[str, list[str]] = defaultdict(list)
    waiting = iter(words)
    for word in waiting:
        if not word.startswith("-"):
            targets.append(word)
        elif word in _SWITCHES:
            given[_SWITCHES[word]].append(word)
        else:
            pair = _with_value(word, waiting)
            if pair is None:
                return None
            given[pair[0]].append(pair[1])
    return None if given["strict"] and given["no_strict"] else _asked(targets, given)


def _with_value(word: str, waiting: Iterator[str]) -> tuple[str, str] | None:
    """What a flag is about, and its value, in the same word or the next."""
    name, equals, value = word.partition("=")
    about = _VALUES.get(name)
    if about is None or (equals and not name.startswith("--")):
        return None
    if not equals:
        value = next(waiting, "--")
        if value.startswith("-") and value != "-":
            return None
    if value not in _CHOICES.get(about, (value,)):
        return None
    if about == "jobs" and not (
        value.isascii() and value.isdecimal() and len(value) <= _MOST_DIGITS and int(value)
    ):
        return None
    return about, value


def _asked(targets: list[str], given: defaultdict[str, list[str]]) -> "ScanWords":
    # What a scan imports is not for who only asks for help.
    from normcheck.cli.commands.scan_command import ScanWords
    from normcheck.cli.flags.fleet_words import FleetWords
    from normcheck.config.merge import Flags

    def last(about: str) -> str | None:
        return given[about][-1] if given[about] else None

    jobs = last("jobs")
    return ScanWords(
        targets=targets,
        flags=Flags(
            select=given["select"],
            extend_select=given["extend_select"],
            ignore=given["ignore"],
            min_severity=last("min_severity"),
            min_confidence=last("min_confidence"),
            fail_on=last("fail_on"),
            strict=True if given["strict"] else False if given["no_strict"] else None,
            formats=given["formats"],
            outputs=given["outputs"],
            baseline=last("baseline"),
            config=last("config"),
            isolated=bool(given["isolated"]),
        ),
        exit_zero=bool(given["exit_zero"]),
        color=last("color") or "auto",
        quiet=bool(given["quiet"]),
        verbose=len(given["verbose"]),
        statistics=bool(given["statistics"]),
        fleet=FleetWords(jobs=int(jobs) if jobs else None, cache=last("cache") or ""),
        weights_budget=last("weights_budget") or "",
    )
