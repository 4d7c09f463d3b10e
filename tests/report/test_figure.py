"""The figure of predicted against stored means."""

import builtins
import sys
from pathlib import Path

import pytest

from normcheck.errors import UsageError
from normcheck.report.people.fit_figure import NEEDS, draw
from normcheck.runs.scan import scan


def _drawn(name: str, samples: Path, file: Path) -> str:
    report = scan([samples / name], wishes=NEEDS)
    draw(report.models[0], report.findings, file)
    return file.read_text(encoding="utf-8")


def test_healthy_panels_are_green_and_foreign_ones_red(samples: Path, tmp_path: Path) -> None:
    """The colour of a panel's points follows the verdict on its layer."""
    pytest.importorskip("matplotlib")
    healthy = _drawn("digits-healthy.pt", samples, tmp_path / "healthy.svg")
    foreign = _drawn("foreign-statistics.pt", samples, tmp_path / "foreign.svg")
    green, red = "#2ca02c", "#d62728"  # tab:green and tab:red
    assert green in healthy
    assert red not in healthy
    assert red in foreign
    assert green not in foreign


def test_nothing_to_draw_says_so(samples: Path, tmp_path: Path) -> None:
    """A model without links gets an error with a hint, and no empty file."""
    pytest.importorskip("matplotlib")
    report = scan([samples / "mlp-layernorm.pt"], wishes=NEEDS)
    with pytest.raises(UsageError, match="nothing to draw"):
        draw(report.models[0], (), tmp_path / "figure.png")
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_extra_is_named(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint is the command that installs it."""
    for name in [n for n in sys.modules if n.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def missing(name: str, *args: object, **kwargs: object) -> object:
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    report = scan([samples / "digits-healthy.pt"], wishes=NEEDS)
    with pytest.raises(UsageError) as caught:
        draw(report.models[0], (), tmp_path / "figure.png")
    assert "normcheck[plot]" in caught.value.hint
