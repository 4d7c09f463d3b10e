"""The report for people: golden texts, and what must hold for any text."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.cells import cell_len
from torch import nn

from normcheck.config.policy import LayerIgnore, Policy
from normcheck.findings import Severity
from normcheck.report.people.layer_table import layer_table
from normcheck.report.people.text_style import TextStyle
from normcheck.report.report import NOT_KNOWN, Report
from normcheck.report.run_summary import DriftSummary
from normcheck.runs.scan import scan
from tests.norms.settled import settle
from tests.report.everything import text_of

GOLDEN = Path(__file__).parent / "golden"
SHOWN = (
    "statistics-lost.pt",
    "statistics-partly-lost.pt",
    "mixed-modes-module.pt",
    "mlp-layernorm.pt",
    "digits-checkpoint.ckpt",
    "too-few-batches.pt",
)


@pytest.fixture(autouse=True)
def _in_samples(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(samples)


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("name", SHOWN)
def test_golden(name: str, width: int) -> None:
    """The text is what somebody has looked at; NORMCHECK_UPDATE_GOLDEN=1 writes it anew."""
    text = text_of(scan([name]), TextStyle(width=width))
    golden = GOLDEN / f"{name}-{width}.txt"
    if os.environ.get("NORMCHECK_UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """Nothing wraps by itself and nothing trails off the screen."""
    text = text_of(scan(["."]), TextStyle(width=width, verbose=True))
    too_wide = [line for line in text.splitlines() if cell_len(line) > width]
    assert too_wide == []
    assert all(line == line.rstrip() for line in text.splitlines())


@pytest.mark.parametrize("width", [40, 44, 60, 72, 80])
def test_no_row_of_the_table_wraps(width: int) -> None:
    """A narrow terminal gets fewer columns, and each layer a single line."""
    (model,) = scan(["statistics-lost.pt"]).models
    long = replace(model.layers[0], kind="LayerNorm or GroupNorm or BatchNorm", over=NOT_KNOWN)
    drift = DriftSummary(long.path, 0.5, 1.5, 1.0, 1.0)
    for layers in ((*model.layers, long), model.layers):
        for drifts in ((), (drift,)):
            table = layer_table(layers, width, drifts, whole=True).plain.splitlines()
            rows = table[: len(layers) + 1]
            assert all(cell_len(row) <= width for row in rows)
            assert all(row[2:].split()[0].lstrip("…") for row in rows)
            assert not any(NOT_KNOWN in line for line in table[len(layers) + 1 :])


def test_the_first_lines_say_what_is_wrong() -> None:
    """File, norms, verdict: within three lines of 100 columns."""
    first = text_of(scan(["statistics-lost.pt"]), TextStyle(width=100)).splitlines()[:3]
    assert "statistics-lost.pt" in first[0]
    assert "6 norm layers, all BatchNorm2d" in first[1]
    assert "never updated" in first[2]


def test_last_line_counts_add_up() -> None:
    """The counts of the last line are those of the findings."""
    report = scan(["."])
    last = " ".join(text_of(report, TextStyle()).split("\n")[-4:])
    for severity in (Severity.ERROR, Severity.WARNING):
        assert f"{report.count(severity)} {severity.value}s" in last
    assert f"{len(report.models)} models" in last


def test_worst_finding_comes_first() -> None:
    """Findings of a model are ordered by severity."""
    for model in scan(["."]).models:
        severities = [
            f.severity.rank for f in scan([model.target]).findings if f.where == model.where
        ]
        assert severities == sorted(severities, reverse=True)


HOSTILE = "bn\n::error::x[red]%0A\x1b[2J\x07\u202e"


def _renamed(report: Report, name: str) -> Report:
    model = report.models[0]
    layers = tuple(replace(layer, path=name) for layer in model.layers)
    findings = tuple(replace(f, layers=(name,), detail=name) for f in report.findings)
    models = (replace(model, layers=layers, class_path=name, target=name, where=name),)
    findings = tuple(replace(f, model=name, where=name) for f in findings)
    return replace(report, models=models, findings=findings)


@pytest.mark.parametrize("color", [False, True])
def test_names_from_a_file_cannot_move_the_cursor(*, color: bool) -> None:
    """Control characters are shown as escapes, markup as text."""
    report = _renamed(scan(["statistics-lost.pt"]), HOSTILE)
    text = text_of(report, TextStyle(width=200, color=color))
    assert "\x1b[2J" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert not any(line.startswith("::error") for line in text.splitlines())
    assert "[red]" in text


def test_verbose_shows_every_layer_and_skipped_rule() -> None:
    """``-v`` unfolds the table and names what was not checked."""
    report = scan(["digits-healthy.pt"])
    model = report.models[0]
    many = tuple(replace(model.layers[0], path=f"block.{i}.norm") for i in range(40))
    large = replace(report, models=(replace(model, layers=many),))
    folded = text_of(large, TextStyle(width=120))
    assert "… 38 more like these (-v shows all)" in folded
    assert "block.39.norm" not in folded
    whole = text_of(large, TextStyle(width=120, verbose=True))
    assert "block.39.norm" in whole
    assert "skipped NC112, NC201, NC202" in whole


def test_no_norms_is_a_calm_answer(tmp_path: Path) -> None:
    """A model without norms is no error and no finding."""
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(3, 2).state_dict(), tmp_path / "linear.pt")
    report = scan([tmp_path / "linear.pt"])
    said = " ".join(text_of(report, TextStyle()).split())
    assert "no normalization layers with parameters or statistics in this file" in said
    assert report.findings == ()


def test_a_model_whose_faults_are_known_is_not_called_well() -> None:
    """Suppressed findings are not praise: neither for one model nor for one among many."""
    policy = Policy(layer_ignores=(LayerIgnore("*", ("NC101",), "known"),))
    one = text_of(scan(["statistics-lost.pt"], policy=policy), TextStyle())
    assert "Nothing but what is suppressed" in one
    assert "Nothing wrong" not in one
    assert "were collected" not in one
    assert "– stem.norm" in one
    assert "✓ stem.norm" not in one
    many = text_of(scan(["statistics-lost.pt", "digits-healthy.pt"], policy=policy), TextStyle())
    assert "all BatchNorm2d, 1 finding suppressed" in many


def _signs(model: nn.Module, folder: Path) -> dict[str, str]:
    """The signs in the table of layers, by their paths."""
    torch.save(model.state_dict(), folder / "model.pt")
    (found,) = scan(folder / "model.pt").models
    rows = layer_table(found.layers, 120, (), whole=True).plain.splitlines()[1:]
    return {row.split()[1]: row[0] for row in rows if row[0] != " "}


def test_a_remark_on_the_design_hides_no_standing(tmp_path: Path) -> None:
    """Biases that norms subtract again: which statistics are vouched for is still seen."""
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for takes in (3, 32, 32, 32):
        parts += [nn.Conv2d(takes, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()]
    model = settle(nn.Sequential(*parts), 3, 12, 12)
    assert _signs(model, tmp_path) == {"1": "?", "4": "✓", "7": "✓", "10": "✓"}
    report = scan(tmp_path / "model.pt")
    assert {f.rule for f in report.findings} == {"NC504"}


def test_a_remark_on_statistics_is_a_layers_sign(tmp_path: Path) -> None:
    """Dead channels are seen in the row of the layer that has them."""
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for takes in (3, 32, 32, 32):
        parts += [nn.Conv2d(takes, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
    model = settle(nn.Sequential(*parts), 3, 12, 12)
    norm = model.get_submodule("7")
    assert isinstance(norm.running_var, torch.Tensor)
    norm.running_var[3] = 0.0
    assert _signs(model, tmp_path)["7"] == "•"
