"""Comparisons for people and for programs: golden texts, and what must hold for any."""

import json
import os
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest
from rich.cells import cell_len

from normcheck.compare.movement import Comparison, Movement
from normcheck.report.diff_report import Diff
from normcheck.report.machines.diff_json import render_diff_json
from normcheck.report.people.diff_text import render_diff_text
from normcheck.report.people.text_style import TextStyle
from normcheck.runs.diff import diff
from tests.rules.between.steps import MOVED, STILL, comparison, idle, layer, step, unlearned

GOLDEN = Path(__file__).parent / "golden"
SHOWN = {
    "diff-lost": ("digits-healthy.pt", "statistics-lost.pt"),
    "diff-series": ("too-few-batches.pt", "too-few-batches-mild.pt", "digits-healthy.pt"),
    "diff-same": ("digits-healthy.pt", "digits-checkpoint.ckpt"),
    "diff-trained-apart": ("never-updated-trained-in-eval.pt", "statistics-lost.pt"),
}


@pytest.fixture(autouse=True)
def _in_samples(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(samples)


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("name", SHOWN)
def test_golden(name: str, width: int) -> None:
    """The text is what somebody has looked at; NORMCHECK_UPDATE_GOLDEN=1 writes it anew."""
    text = render_diff_text(diff(SHOWN[name]), TextStyle(width=width))
    golden = GOLDEN / f"{name}-{width}.txt"
    if os.environ.get("NORMCHECK_UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def _of(result: Comparison) -> Diff:
    """A finished comparison without findings."""
    report = diff(["digits-healthy.pt", "digits-healthy.pt"]).report
    return Diff((result,), report)


def _text(result: Comparison, **style: object) -> str:
    return render_diff_text(_of(result), TextStyle(**style))  # type: ignore[arg-type]


def _rows(text: str) -> list[list[str]]:
    """The cells of the table, header first."""
    lines = text.split("\n\n")[1].splitlines()
    return [line.split() for line in lines]


LONG = "backbone.stages.2.blocks.11.depthwise.normalization"


@pytest.mark.parametrize("width", [50, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """Columns are left out, the least important first, and paths lose their beginning."""
    wide = [layer(f"{LONG}.{i}") for i in range(3)]
    text = _text(comparison(*[step(*wide)] * 12), width=width)
    assert [line for line in text.splitlines() if cell_len(line) > width] == []
    assert "normalization.2" in text or "ation.2" in text
    header = next(line for line in text.splitlines() if line.lstrip().startswith("layer"))
    assert "weights" in header
    assert "mean" in header
    assert ("γ, β" in header) is (width >= 120)


def test_values_in_the_table() -> None:
    """Identical, absent, tiny, large, and how counts went on."""
    tiny, large = Movement(1e-9, moved=True), Movement(3.0, moved=True)
    table = _rows(
        _text(
            comparison(
                step(
                    layer("a", weights=STILL, affine=None, stats=tiny, batches=(3, 3)),
                    layer("b", weights=tiny, affine=MOVED, stats=large, batches=(3, 1003)),
                    layer("c", stats=None, batches=(None, None)),
                    layer("d", batches=(None, None)),
                )
            ),
            width=100,
        )
    )
    assert table[1] == ["a", "=", "–", "<0.001", "σ", "<0.001", "%", "="]
    assert table[2] == ["b", "<0.001", "%", "10", "%", "3", "σ", "×20.1", "+1,000"]
    assert table[3] == ["c", "10", "%", "10", "%", "–", "–", "–"]
    assert table[4][-1] == "?"


def test_trends() -> None:
    """A bar a step, scaled to the row; a dot where nothing moved, a blank where it was not."""
    half = Movement(0.05, moved=True)
    steps = [
        step(layer("a", stats=MOVED), layer("b")),
        step(layer("a", stats=half), layer("b")),
        step(unlearned("a", stats=STILL)),
        step(layer("a", stats=half), layer("b")),
    ]
    series = comparison(*steps, total=step(layer("a"), layer("b")))
    text = _text(series, width=100)
    assert "█▅·▅" in text
    rows = [line for line in text.splitlines() if line.startswith("  b ")]
    assert "██ █" in rows[0]
    assert "· identical" in text


def test_a_long_series_is_condensed() -> None:
    """Sixteen bars at most; a single large step still shows."""
    small = Movement(0.001, moved=True)
    steps = [step(layer(stats=MOVED if i == 57 else small)) for i in range(100)]
    sides = tuple(
        replace(comparison(steps[0]).sides[0], target=f"epoch-{i}.pt") for i in range(101)
    )
    text = _text(comparison(*steps, sides=sides), width=120)
    bars = max(text.split(), key=lambda word: word.count("▁"))
    assert len(bars) <= 16
    assert bars.count("█") == 1


def test_large_models_are_folded() -> None:
    """Layers alike are folded, ``-v`` shows them, odd ones stay."""
    many = [layer(f"block.{i}.bn") for i in range(60)] + [idle("odd.bn")]
    folded = _text(comparison(step(*many)), width=100)
    assert "… 54 more like these (-v shows all)" in folded
    assert "odd.bn" in folded
    assert "block.59.bn" in _text(comparison(step(*many)), width=100, verbose=True)


def test_layers_of_one_side_are_listed() -> None:
    """With the file that has them."""
    one = comparison(step(layer()), only_old=("head.bn",), only_new=("neck.a", "neck.b"))
    text = _text(one, width=100)
    assert "only in a.pt: head.bn" in text
    assert "only in b.pt: neck.a, neck.b" in text


def test_missing_statistics_are_not_called_good(samples: Path) -> None:
    """A file without some of the statistics gets no tick."""
    text = render_diff_text(diff(["digits-healthy.pt", "missing-statistics.pt"]), TextStyle())
    assert "3 layers with running statistics in digits-healthy.pt only" in " ".join(text.split())
    assert "✓" not in text


HOSTILE = "bn\n::error::x[red]%0A\x1b[2J\x07\u202e"


def test_names_from_a_file_cannot_move_the_cursor() -> None:
    """Control characters are shown as escapes, markup as text."""
    one = comparison(step(layer(HOSTILE)), only_old=(HOSTILE,), notes=(HOSTILE,))
    sides = tuple(replace(side, target=HOSTILE + side.target, where=HOSTILE) for side in one.sides)
    text = _text(replace(one, sides=sides), width=300)
    for sign in ("\x1b", "\x07", "\u202e"):
        assert sign not in text
    assert not any(line.startswith("::error") for line in text.splitlines())
    assert "[red]" in text


def test_json_carries_every_step_and_layer() -> None:
    """One object a comparison, beside all that every report has."""
    series = diff(SHOWN["diff-series"])
    value = json.loads(render_diff_json(series), parse_constant=lambda _: 1 / 0)
    assert value["version"] == 1
    assert {"models", "findings", "suppressed", "skipped", "errors", "summary"} <= value.keys()
    (entry,) = value["comparisons"]
    assert entry["story"].startswith("Over 2 steps: statistics moved")
    assert [c["target"] for c in entry["checkpoints"]] == list(SHOWN["diff-series"])
    assert [(s["old"], s["new"], s["batches"]) for s in entry["steps"]] == [(0, 1, 25), (1, 2, 414)]
    assert entry["total"]["batches"] == 439
    (stem, *_) = entry["steps"][0]["layers"]
    assert (stem["path"], stem["weights_path"]) == ("stem.norm", "stem.conv")
    assert stem["weights"] == {"moved": False, "distance": 0.0}
    assert stem["running_mean"]["moved"] is True
    assert stem["num_batches_tracked"] == [5, 30]


def test_json_has_no_infinity() -> None:
    """Numbers that JSON lacks are strings."""
    endless = comparison(step(layer(weights=Movement(inf, moved=True))))
    value = json.loads(render_diff_json(_of(endless)), parse_constant=lambda _: 1 / 0)
    assert value["comparisons"][0]["total"]["layers"][0]["weights"]["distance"] == "inf"
