"""Words that are understood without Typer mean what Typer takes them for."""

from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from normcheck.cli.flags.command_flags import NAMES, command
from normcheck.cli.flags.diff_flags import Diff
from normcheck.cli.flags.fix_flags import Fix
from normcheck.cli.flags.scan_flags import Scan
from normcheck.cli.flags.typer_commands import typer_command
from normcheck.cli.quick_parser import quickly
from normcheck.config.flags.flag import Declared, flags_of

pytestmark = pytest.mark.slow

Asked = Scan | Diff | Fix
TARGETS = {"scan": ["a.pt"], "diff": ["a.pt", "b.pt"], "fix": ["a.pt"]}
KINDS = {name: command(name) for name in NAMES}
FLAGS = [(name, entry) for name, kind in KINDS.items() for entry in flags_of(kind)]


def by_typer(command: str, words: list[str]) -> Asked | None:
    """What Typer makes of the words; None where it refuses them."""
    seen: list[Any] = []

    def caught(asked: Any) -> int:
        seen.append(asked)
        return 0

    app = typer.Typer(context_settings={"help_option_names": ["-h", "--help"]})
    app.command()(typer_command(KINDS[command], caught))
    try:
        app(args=words, prog_name="normcheck", standalone_mode=False)
    except Exception:
        return None
    return seen[0] if seen else None


SPELLINGS = sorted({word for _, entry in FLAGS for word in (*entry.words, entry.flag.off) if word})
CHOICES = sorted({choice for _, entry in FLAGS for choice in entry.flag.choices})
WORDS = st.one_of(
    st.sampled_from(SPELLINGS),
    st.sampled_from(["-", "--", "-vq", "-fjson", "--help", "", "model.pt", "--version"]),
    st.sampled_from(["2", "0", "-1", "1.5", "1e3", "nan", ".5", "1_0", " 3", "²", "007"]),
    st.sampled_from(CHOICES),
    st.builds("{}={}".format, st.sampled_from(SPELLINGS),
              st.sampled_from(["json", "error", "high", "3", "", "-", "a=b", "never"])),
)  # fmt: skip


@settings(deadline=None, max_examples=60)  # Typer takes long where the machine is busy
@given(st.sampled_from(sorted(NAMES)), st.lists(WORDS, max_size=8))
def test_typer_takes_plain_words_for_the_same(command: str, words: list[str]) -> None:
    """Whatever is understood here; all else is left to it."""
    quick = quickly(KINDS[command], words)
    if quick is not None:
        assert quick == by_typer(command, words)


def spoken(entry: Declared) -> list[list[str]]:
    """Ways to give a flag, with each value that it may have."""
    values = entry.flag.choices or ("3",)
    ways = [
        [word] if entry.is_switch else [word, value]
        for word in entry.words
        for value in ([""] if entry.is_switch else values)
    ]
    return [*ways, [entry.flag.off]] if entry.flag.off else ways


@pytest.mark.parametrize(("command", "entry"), FLAGS, ids=lambda x: getattr(x, "name", x))
def test_each_flag_is_understood(command: str, entry: Declared) -> None:
    """With each value that it may have, before and behind the target."""
    targets = TARGETS[command]
    plain = quickly(KINDS[command], targets)
    changes = False
    for words in spoken(entry):
        for order in ([*words, *targets], [*targets, *words], [*words, *words, *targets]):
            quick = quickly(KINDS[command], order)
            assert quick is not None
            assert quick == by_typer(command, order)
            changes |= quick != plain
    assert changes


@pytest.mark.parametrize(
    "words",
    [
        ["--help"], ["-h"], ["a.pt", "--form", "json"], ["a.pt", "-f", "xml"], ["a.pt", "-f"],
        ["a.pt", "--jobs", "0"], ["a.pt", "--jobs", "two"], ["a.pt", "-vv"], ["a.pt", "--where"],
        ["a.pt", "--jobs", "²"], ["a.pt", "-o", "-q"], ["--", "-a.pt"], ["a.pt", "--fail-on", ""],
        ["a.pt", "--strict", "--no-strict"], ["a.pt", "-f=json"], ["a.pt", "--quiet=1"],
        ["a.pt", "--time-limit", "-1"], ["a.pt", "--time-limit", "nan"],
    ],
)  # fmt: skip
def test_what_needs_explaining_is_left_to_typer(words: list[str]) -> None:
    """Errors and help are its own."""
    assert quickly(Scan, words) is None


@pytest.mark.parametrize(
    ("kind", "words"),
    [(Diff, []), (Diff, ["--ranks"]), (Fix, []), (Fix, ["a.pt", "b.pt"]), (Fix, ["--counts"])],
)
def test_too_few_or_too_many_targets_are_left_to_typer(kind: type[Asked], words: list[str]) -> None:
    """It says how many a command takes."""
    assert quickly(kind, words) is None
