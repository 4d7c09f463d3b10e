"""Reports of many models: part by part, as lines, and with a summary."""

import gc
import json
import os
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from rich.cells import cell_len

from normcheck.config.examination import Examination
from normcheck.config.policy import LayerIgnore, Policy
from normcheck.report.machines import as_json
from normcheck.report.machines.as_json import SCHEMA_FILE as REPORT_SCHEMA
from normcheck.report.machines.as_json_lines import SCHEMA_FILE, JsonLines
from normcheck.report.machines.json_text import json_text
from normcheck.report.part import Part
from normcheck.report.people.rule_counts import StatisticsText
from normcheck.report.people.text_stream import TextReport
from normcheck.report.people.text_style import TextStyle
from normcheck.report.report import Report, joined
from normcheck.report.tally import MANY, WORST, Tally
from normcheck.runs.scan import parts, scan
from tests.report.everything import clean, everything, hostile, render, text_of
from tests.report.test_json_schema import closed

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parent / "golden"
POLICY = Policy(layer_ignores=(LayerIgnore("stem.*", ("NC103",), "known"),))


@pytest.fixture(autouse=True)
def _in_samples(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(samples)


@pytest.fixture(scope="module")
def pieces(request: pytest.FixtureRequest) -> list[Report]:
    """The parts of a scan of all samples, and a file that is missing."""
    before = Path.cwd()
    os.chdir(Path(__file__).parents[2] / "sample_models")
    try:
        return [part.report for part in parts([".", "missing.pt"], Examination(), POLICY)]
    finally:
        os.chdir(before)


def many(pieces: list[Report]) -> list[Report]:
    """The same twice over, under other names."""
    return [
        replace(
            piece,
            models=tuple(replace(m, target=f"run-{n}/{m.target}") for m in piece.models),
            findings=tuple(replace(f, model=f"run-{n}/{f.model}") for f in piece.findings),
            unused=piece.unused if n else (),
        )
        for n in range(2)
        for piece in pieces
    ]


def streamed(form: Any, pieces: list[Report]) -> str:
    tally = Tally()
    text = ""
    for part in map(Part.of, pieces):
        tally.add(part)
        text += form.part(part)
    return text + "".join(form.end(tally))


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("quiet", [False, True])
def test_text_is_the_same_however_it_is_cut(
    pieces: list[Report], *, verbose: bool, quiet: bool
) -> None:
    """File by file, or the whole report at once."""
    style = TextStyle(verbose=verbose, quiet=quiet, errors=True)
    whole = text_of(joined(pieces[0], pieces), style)
    assert streamed(TextReport(style), pieces) == whole
    assert streamed(TextReport(style), pieces[:1]) != whole


@pytest.mark.parametrize("in_memory", [1, as_json._IN_MEMORY])
def test_json_is_the_same_however_it_is_cut(
    pieces: list[Report], in_memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And as the library writes it, also where lists wait on disk."""
    monkeypatch.setattr(as_json, "_IN_MEMORY", in_memory)
    for cut in (pieces, pieces[:1], [hostile()], [everything(), clean()], [clean()]):
        text = streamed(as_json.Json(), cut)
        assert text == as_json.render_json(joined(cut[0], cut))
        assert text == json_text(json.loads(text))


def test_json_does_not_keep_what_is_written(pieces: list[Report]) -> None:
    """What stands behind the models waits in a file: memory is that of one piece."""
    form = as_json.Json()
    tracemalloc.start()
    try:
        for n, part in enumerate(map(Part.of, many(pieces) * 40)):
            form.part(part)
            if n == 100:
                gc.collect()
                before = tracemalloc.get_traced_memory()[0]
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < as_json._IN_MEMORY
    finally:
        tracemalloc.stop()
    lists = json.loads("{" + "".join(form.end(Tally())).partition("],")[2])
    assert len(lists["findings"]) == 40 * sum(len(piece.findings) for piece in many(pieces))


@pytest.mark.parametrize("width", [80, 200])
def test_golden_summary(pieces: list[Report], width: int) -> None:
    """What is said at the end of many; NORMCHECK_UPDATE_GOLDEN=1 writes it anew."""
    lines = streamed(TextReport(TextStyle(width=width)), many(pieces)).splitlines(keepends=True)
    start = max(n for n, line in enumerate(lines) if " with findings: " in line)
    text = "".join(lines[start:])
    golden = GOLDEN / f"many-{width}.txt"
    if os.environ.get("NORMCHECK_UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")
    assert all(cell_len(line.rstrip("\n")) <= width for line in lines)


def test_the_summary_adds_up(pieces: list[Report]) -> None:
    """Models by their worst finding, rules by models, the worst first."""
    report = joined(pieces[0], many(pieces))
    tally = Tally.of(report)
    sick = {(f.model, f.where) for f in report.findings if f.severity.rank}
    assert sum(tally.sick.values()) == len(sick)
    assert sum(rule.findings for rule in tally.rules.values()) == len(report.findings)
    worst = tally.worst_first()
    assert len(worst) == WORST
    marks = [(count.errors, count.warnings) for count in worst]
    assert marks == sorted(marks, reverse=True)
    for count in worst:
        errors = [
            f
            for f in report.findings
            if (f.model, f.where) == (count.target, count.where) and f.severity.rank == 2
        ]
        assert len(errors) == count.errors


def test_healthy_models_beyond_a_screen_are_counted(pieces: list[Report]) -> None:
    """Nobody reads thousands of ticks; -v lists them, and sick ones are always shown."""
    healthy = next(p for p in pieces if p.models[0].target == "digits-healthy.pt")
    lots = [
        replace(healthy, models=(replace(healthy.models[0], target=f"run/{n}.pt"),))
        for n in range(MANY + 15)
    ]
    text = streamed(TextReport(TextStyle()), lots)
    assert f"Nothing wrong in {MANY + 15} models" in text
    assert "15 models without an error or warning not listed (-v does)" in text
    assert f"run/{MANY - 1}.pt" in text
    assert f"run/{MANY}.pt" not in text
    assert f"run/{MANY + 14}.pt" in streamed(TextReport(TextStyle(verbose=True)), lots)
    assert streamed(TextReport(TextStyle(quiet=True)), lots) == ""


@pytest.mark.parametrize("form", [TextReport(TextStyle()), JsonLines(), StatisticsText()])
def test_memory_does_not_grow_with_healthy_models(pieces: list[Report], form: Any) -> None:
    """A part is forgotten when it is written."""
    healthy = next(p for p in pieces if p.models[0].target == "digits-healthy.pt")

    def some(count: int) -> Iterator[int]:
        tally = Tally()
        for number in range(count):
            model = replace(healthy.models[0], target=f"run/{number}.pt")
            part = Part.of(replace(healthy, models=(model,)))
            tally.add(part)
            yield len(form.part(part))

    sum(some(50))
    tracemalloc.start()
    sum(some(300))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 100_000  # of 300 models; a single model takes some 20,000 bytes


def problems(line: str) -> list[str]:
    report = closed(json.loads(REPORT_SCHEMA.read_text(encoding="utf-8")))
    schema = closed(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))
    registry = Registry().with_resource(REPORT_SCHEMA.name, Resource.from_contents(report))
    errors = Draft202012Validator(schema, registry=registry).iter_errors(json.loads(line))
    return [f"{error.json_path}: {error.message[:300]}" for error in errors]


def test_every_line_is_valid_and_holds_nothing_undescribed(pieces: list[Report]) -> None:
    """Each line by itself is what the schema says, and the last one is the summary."""
    for report in (everything(), clean(), hostile(), joined(pieces[0], pieces)):
        text = render(report, "json-lines", Path())
        lines = text.split("\n")
        assert lines.pop() == ""
        assert lines == text.splitlines()  # no sign within that some take for a newline
        assert [problem for line in lines for problem in problems(line)] == []
        kinds = [json.loads(line)["kind"] for line in lines]
        assert kinds == ["file"] * (len(lines) - 1) + ["summary"]
    assert problems('{"version": 1, "kind": "file"}')


def test_lines_hold_what_the_whole_report_holds(pieces: list[Report]) -> None:
    """Nothing is lost on the way, and the counts are those of the report."""
    from normcheck.report.machines.as_json import render_json

    lines = [json.loads(line) for line in streamed(JsonLines(), pieces).splitlines()]
    whole = json.loads(render_json(joined(pieces[0], pieces)))
    for name in ("models", "findings", "suppressed", "skipped", "errors"):
        assert [entry for line in lines[:-1] for entry in line[name]] == whole[name]
    counts = lines[-1]["summary"]
    assert counts.pop("files") == len(lines) - 1
    assert counts == whole["summary"]
    assert lines[-1]["unused"] == whole["unused"]


def test_the_order_of_files_is_that_of_the_targets() -> None:
    """A file that cannot be read has its line where it was named."""
    stream = parts(["digits-healthy.pt", "missing.pt", "statistics-lost.pt"], Examination())
    lines = [
        json.loads(line)
        for line in streamed(JsonLines(), [part.report for part in stream]).splitlines()
    ]
    names = [line.get("target") for line in lines]
    assert names == ["digits-healthy.pt", "missing.pt", "statistics-lost.pt", None]


def test_a_scan_is_its_parts() -> None:
    """``scan`` is nothing but all parts together."""
    stream = parts(["statistics-lost.pt", "digits-healthy.pt"], Examination())
    pieces = [part.report for part in stream]
    assert joined(pieces[0], pieces) == scan(["statistics-lost.pt", "digits-healthy.pt"])
