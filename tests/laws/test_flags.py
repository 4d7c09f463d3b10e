"""A flag is declared once, and is then wherever flags are told of."""

import inspect
import re
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any

import pytest

from normcheck.cli.commands.show_settings import settings_text
from normcheck.cli.flags.command_flags import NAMES, command
from normcheck.cli.flags.scan_flags import Scan
from normcheck.cli.flags.typer_commands import typer_command
from normcheck.cli.quick_parser import quickly
from normcheck.config.flags.flag import Argument, FileKey, Flag, declared, filled, flags_of
from normcheck.config.flags.settings_flags import Flags, Judging
from normcheck.config.keys import keys_of
from normcheck.config.merge import resolve
from tests.conftest import ROOT


@dataclass(frozen=True, slots=True)
class Another:
    """A group that nothing knows of."""

    targets: Annotated[tuple[str, ...], Argument("TARGET", "A file.")] = ()
    max_layers: Annotated[
        int | None,
        Flag("Most layers.", metavar="N", key=FileKey("whole number", "3", "most layers", "count")),
    ] = None


def test_a_new_field_is_a_flag_and_a_key() -> None:
    """For Typer, without it, and in a configuration file with the table of the documentation."""
    command = typer_command(Another, lambda asked: asked.max_layers or 0)
    parameter = inspect.signature(command).parameters["max_layers"]
    (option,) = parameter.annotation.__metadata__
    assert (option.help, parameter.default) == ("Most layers.", None)
    assert command(targets=["a.pt"], max_layers=7) == 7
    assert quickly(Another, ["a.pt", "--max-layers", "7"]) == Another(("a.pt",), 7)
    (key,) = keys_of(Another)
    assert (key.name, key.form, key.default) == ("max-layers", "whole number", "3")


@pytest.mark.parametrize("name", NAMES)
def test_every_field_is_told_of_everywhere(name: str) -> None:
    """In the signature, the parser without Typer and the page of the commands."""
    kind = command(name)
    parameters = inspect.signature(typer_command(kind, lambda _asked: 0)).parameters
    assert list(parameters) == [entry.field for entry in declared(kind)]
    page = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    told = page.split(f"$ normcheck {name} --help")[1].split("```")[0]
    words = ["a.pt"] if name == "fix" else ["a.pt", "b.pt"]
    for entry in flags_of(kind):
        assert re.search(rf"{entry.name}[ ,\n]", told), entry.name
        value = entry.flag.choices[0] if entry.flag.choices else "1"
        given = [entry.name] if entry.is_switch else [entry.name, value]
        assert quickly(kind, [*words, *given]) is not None, entry.name


def test_show_settings_tells_of_every_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings with who set them, and whatever else was given."""
    for entry in flags_of(Scan):
        if entry.field in ("show_settings", "no_config", "config"):
            continue
        value: Any = entry.flag.choices[-1] if entry.flag.choices else "7"
        value = "NC101" if entry.flag.completes_rules else value
        value = not entry.default if entry.is_switch else entry.type(value)
        asked = filled(Scan, {entry.field: (value,) if entry.repeats else value, "no_config": True})
        lines = settings_text(resolve(asked.flags, {}, ROOT), asked).splitlines()
        setting = any(line.startswith(f"{entry.key} = ") for line in lines)
        assert setting or any(line.startswith(f"# {entry.name} ") for line in lines), entry.name
        if setting:
            assert any(line.endswith(f"# {entry.name}") for line in lines), entry.name


def test_settings_of_a_file_are_merged_by_their_declarations() -> None:
    """Each has an origin, and no other key has."""
    origins = [origin.key for origin in resolve(Flags(), {}, ROOT / "tests" / "laws").origins]
    assert origins == [entry.key for entry in flags_of(Judging)] + ["format", "output-file"]


def test_commands_that_share_a_flag_share_its_declaration() -> None:
    """A flag of one name is one object, whichever command has it."""
    seen: dict[str, Flag] = {}
    for kind in map(command, NAMES):
        for entry in flags_of(kind):
            for word in (*entry.words, entry.flag.off):
                # A report and a repaired copy are two things, and fewer forms tell of a repair.
                if word and word not in ("-o", "-f", "--format"):
                    assert seen.setdefault(word, entry.flag) is entry.flag, word


@pytest.mark.parametrize("name", NAMES)
def test_no_two_flags_of_a_command_are_called_alike(name: str) -> None:
    """Nor two fields, which their values are handed over by."""
    entries = list(declared(command(name)))
    names = [entry.field for entry in entries]
    words = [word for entry in flags_of(command(name)) for word in entry.words]
    assert len(names) == len(set(names))
    assert len(words) == len(set(words))


def test_groups_do_without_a_word() -> None:
    """Every flag may be left out: nothing in a group is required."""
    for kind in map(command, NAMES):
        for field in fields(kind):
            if is_dataclass(field.type):
                assert callable(field.type)
                assert field.type() == field.type()
