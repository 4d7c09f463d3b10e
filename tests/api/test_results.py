"""Results show themselves: as text, in a notebook, through rich, as data, and in short."""

import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

import normcheck
from normcheck.errors import NormcheckError
from normcheck.report.people.text_style import TextStyle
from tests.report.everything import HOSTILE, everything, finding_on, hostile, text_of

SHORT = 1000


@pytest.fixture(autouse=True)
def _in_samples(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(samples)


@pytest.fixture
def results(tmp_path: Path) -> dict[str, object]:
    report = normcheck.scan(["statistics-lost.pt", "digits-healthy.pt"])
    return {
        "report": report,
        "diff": normcheck.diff("digits-healthy.pt", "statistics-lost.pt"),
        "repair": normcheck.fix("mixed-modes-module.pt", tmp_path / "fixed.pt", modes="eval"),
        "layers": report.layers,
    }


def test_every_result_in_every_way(results: dict[str, object]) -> None:
    """Text, HTML, rich, data; and a repr that no prompt suffers from."""
    for name, result in results.items():
        text = str(result)
        assert text.strip()
        assert len(repr(result)) < SHORT
        html = result._repr_html_()
        assert html.startswith(("<pre", "<table"))
        out = io.StringIO()
        Console(file=out, width=120).print(result)
        assert text.split(maxsplit=1)[0] in out.getvalue()
        assert json.loads(result.to_json()) == json.loads(json.dumps(result.to_dict())), name


def test_what_is_printed_is_what_the_command_prints(results: dict[str, object]) -> None:
    """At 80 columns, without the end of the last line."""
    report = results["report"]
    assert f"{report}\n" == text_of(report, TextStyle(errors=True))


def test_huge_reports_and_settings_are_short() -> None:
    """Where one line had 79 kB."""
    assert len(repr(hostile())) < SHORT
    assert len(repr(everything())) < SHORT
    asked = normcheck.Examination(weights_budget=7, redirects=("a.example",) * 500)
    assert "weights_budget=7" in repr(asked)
    assert len(repr(asked)) < SHORT
    assert repr(normcheck.Examination()) == "Examination()"
    assert repr(normcheck.Policy(strict=True)) == "Policy(strict=True)"


def test_names_are_no_markup_in_a_notebook() -> None:
    """Of layers, files and places."""
    report = hostile()
    for html in (report._repr_html_(), report.layers._repr_html_()):
        assert "<script" not in html
        assert "\x1b" not in html


def test_ok_and_fails() -> None:
    """As the exit code: findings at or above fail_on, and errors."""
    sick = normcheck.scan("statistics-lost.pt")
    assert not sick.ok
    assert [finding.rule for finding in sick.fails()] == ["NC101"]
    assert normcheck.scan("statistics-lost.pt", fail_on="error").ok
    assert normcheck.scan("digits-healthy.pt").ok
    lost = normcheck.scan("no-such-file.pt")
    assert not lost.ok
    assert not lost.fails()
    changed = normcheck.diff("digits-healthy.pt", "statistics-lost.pt")
    assert changed.ok is not bool(changed.fails())


def test_the_layers_are_a_table() -> None:
    """To go through, to look up, and to count."""
    layers = normcheck.scan(["statistics-lost.pt", "digits-healthy.pt"]).layers
    assert len(layers) == len(list(layers)) == 12
    assert layers["stem.norm"].rules == ("NC101",)
    assert layers[6].path == "stem.norm"
    records = layers.to_records()
    assert records[0]["model"] == "statistics-lost.pt"
    assert (records[0]["mean"], records[0]["var"]) == (0.0, 1.0)
    assert records[0]["standing"] == "accused"
    with pytest.raises(KeyError):
        layers["no.such.layer"]
    assert all(len(line) <= 80 for line in str(layers).splitlines())


def test_data_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row for each finding, and for each layer."""
    pandas = pytest.importorskip("pandas")
    report = normcheck.scan(["statistics-lost.pt", "digits-healthy.pt"])
    frame = report.to_dataframe()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame["rule"]) == [finding.rule for finding in report.findings]
    assert len(report.layers.to_dataframe()) == 12
    assert list(normcheck.scan("digits-healthy.pt").to_dataframe().columns)[:3] == [
        "model", "where", "rule",
    ]  # fmt: skip


def test_without_pandas_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else needs it."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(NormcheckError, match="pandas") as caught:
        normcheck.scan("digits-healthy.pt").to_dataframe()
    assert caught.value.hint == "pip install pandas"


def test_the_names_of_the_package_are_there() -> None:
    """Each public name can be had."""
    assert HOSTILE
    assert finding_on("a")
    for name in normcheck.__all__:
        assert getattr(normcheck, name) is not None
