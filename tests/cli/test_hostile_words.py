"""Names in a file, and names of files, in all that a command writes: none is a message to a log."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from normcheck.config.choices import FORMATS
from tests.cli.conftest import Normcheck, Ran
from tests.report.test_hostile_names import OF_SERVICES, SHAPELESS, commands

ATTACKS = (
    "##vso[task.complete result=Succeeded;]x",
    "##teamcity[buildStop comment='x']",
    "##[error]x",
    "x\n::error title=x::y",
    "\r::stop-commands::x",
    "section_start:1:x\r\x1b[0Kx",
    "travis_fold:start:x\r\x1b[0K",
    "--- x",
    "\n+++ x",
    "\x1b]8;;http:x\x07\x1b[2J",
    "a\u202e\u2066\u200f\u2028\x85\u3164b",
)


def harmless(ran: Ran, *, github: bool = False, markdown: bool = False) -> None:
    """Hold every line of both streams against what the services look for."""
    for text in (ran.out, ran.err):
        # Tabs indent XML; the other one joins words in Markdown, so that no link is made of them.
        ours = {"\n", "\t", "\u2060"} if markdown or "<?xml" in text else {"\n"}
        assert all(c.isprintable() and c not in SHAPELESS for c in set(text) - ours)
        lines = text.splitlines()
        assert not [line for line in lines if OF_SERVICES.search(line)]
        meant = ("::error title=", "::warning title=", "::notice title=")
        assert not [line for line in lines if commands(line) and not
                    (github and line.startswith(meant))]  # fmt: skip


@pytest.fixture
def hostile(tmp_path: Path) -> list[Path]:
    """Two checkpoints of norms with such names, and such names of their own."""
    files = []
    for number in (1, 2):
        tensors = {}
        for attack in ATTACKS:
            for part, value in (("weight", 1.5), ("bias", 0.5), ("running_mean", float(number)),
                                ("running_var", float("nan"))):  # fmt: skip
                tensors[f"{attack}.{part}"] = np.full(8, value, dtype=np.float32)
        files.append(tmp_path / f"{number}{ATTACKS[0]}{ATTACKS[3]}{ATTACKS[10]}.safetensors")
        save_file(tensors, files[-1])
    return files


@pytest.mark.parametrize("form", FORMATS)
def test_scan_and_diff_in_every_form(normcheck: Normcheck, hostile: list[Path], form: str) -> None:
    """With all details, at any width."""
    kind = {"github": form == "github", "markdown": form == "markdown"}
    ran = normcheck("scan", *hostile, "-f", form, "-v")
    assert ran.code == 1
    assert len(ran.out) > 500
    harmless(ran, **kind)
    if form != "json-lines":
        harmless(normcheck("diff", *hostile, "-f", form, "-v"), **kind)


@pytest.mark.parametrize("width", ["20", "37", "61", "200"])
def test_text_at_any_width(
    normcheck: Normcheck, hostile: list[Path], width: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrapping brings nothing to the beginning of a line."""
    monkeypatch.setenv("COLUMNS", width)
    for words in (("scan", *hostile, "-v"), ("scan", *hostile, "--statistics"), ("diff", *hostile)):
        harmless(normcheck(*words))


@pytest.mark.parametrize("attack", ATTACKS)
def test_errors_that_quote_a_word(normcheck: Normcheck, tmp_path: Path, attack: str) -> None:
    """Of a file that is missing, damaged, of no format, and of flags that make no sense."""
    damaged = tmp_path / f"{attack.replace('/', '')}.pt"
    damaged.write_bytes(b"PK\x03\x04" + attack.encode("utf-8"))
    commands_ = (
        ("scan", damaged), ("diff", damaged, damaged), ("fix", damaged, "--counts", "-o", "x.pt"),
        ("scan", f"missing{attack}"), ("scan", damaged, "--select", attack),
        ("scan", damaged, "--fail-on", attack), ("scan", damaged, f"--{attack}"),
        ("rule", attack), ("kinds", attack), (attack,), ("scan", damaged, "-vv"),
        ("scan", damaged, "--config", attack), ("scan", damaged, "--baseline", attack),
    )  # fmt: skip
    for words in commands_:
        ran = normcheck(*words)
        assert ran.code == 2, words
        assert ran.err, words
        harmless(ran)


def test_configuration_and_baseline(
    normcheck: Normcheck, tmp_path: Path, hostile: list[Path]
) -> None:
    """What a file of settings holds is shown, quoted in errors, and reported as unused."""
    escaped = [attack.encode("unicode_escape").decode() for attack in ATTACKS]
    quoted = [word.replace("\\x", "\\u00") for word in escaped]
    config = tmp_path / "normcheck.toml"
    config.write_text("[per-layer-ignores]\n" + "".join(
        f'"{word}{n}" = {{ rules = ["NC101"], reason = "{word}" }}\n'
        for n, word in enumerate(quoted)
    ))  # fmt: skip
    harmless(normcheck("scan", hostile[0], "--show-settings"))
    harmless(normcheck("scan", hostile[0], "-v"))
    harmless(normcheck("scan", *hostile, "--write-baseline"))
    harmless(normcheck("scan", *hostile, "--baseline", "normcheck-baseline.json", "-v"))
    for word in quoted:
        config.write_text(f'"{word}" = 1\n')
        ran = normcheck("scan", hostile[0])
        assert ran.code == 2
        harmless(ran)
