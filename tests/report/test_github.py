"""Annotations of GitHub Actions."""

from dataclasses import replace
from pathlib import Path

import pytest

from normcheck.findings import Severity
from normcheck.report.certificate import certificate_of, count, sentences
from normcheck.report.machines.as_github import render_github
from tests.report.everything import clean, everything, finding_on

ROOT = Path("/project")


@pytest.fixture(autouse=True)
def _in_samples(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(samples)


def commands(text: str) -> list[str]:
    return [line.split()[0].strip(":") for line in text.splitlines() if line.startswith("::")]


def test_the_worst_comes_first() -> None:
    """GitHub shows ten of a kind: errors before warnings before notices."""
    found = commands(render_github(everything(), ROOT))
    assert found == ["error"] * 2 + ["warning"] * 3 + ["notice"] * 3


def test_the_last_line_counts() -> None:
    """It is no command, and says when annotations are not shown."""
    last = render_github(everything(), ROOT).splitlines()[-1]
    assert last == (
        "normcheck: 6 models, 1 error, 3 warnings, 1 info, 3 suppressed, 5 skipped, 1 failed"
    )
    many = tuple(finding_on(f"layer.{i}") for i in range(11))
    last = render_github(replace(clean(), findings=many), ROOT).splitlines()[-1]
    assert "annotations are shown for 10 of a kind" in last


def test_each_model_shows_its_certificate() -> None:
    """In the log, as no command, what was judged of it: the same as in every other form."""
    report = everything()
    lines = [
        line for line in render_github(report, ROOT).splitlines() if line.startswith("certificate ")
    ]
    assert len(lines) == sum(bool(model.layers) for model in report.models)
    for line, model in zip(lines, (m for m in report.models if m.layers), strict=True):
        certificate = certificate_of(model.layers)
        assert line.startswith(
            f"certificate {'earned' if certificate.earned else 'not earned'} by "
        )
        assert (f"{count(certificate.accused)} accused." in line) == bool(certificate.accused)
        assert all(said in line for said in sentences(certificate))


def test_a_name_makes_no_command_of_a_certificate() -> None:
    """A file may be called like a command, and a layer's reason may hold a line's end."""
    model = replace(clean().models[0], target="x\n::error::forged")
    text = render_github(replace(clean(), models=(model,)), ROOT)
    assert commands(text) == []


def test_messages_keep_their_lines() -> None:
    """One line of the log, several of the annotation, percent signs escaped once."""
    text = "59 % is\nleft, 100%0A"
    finding = replace(finding_on("bn", text=text), severity=Severity.ERROR, fix="100 %")
    line = render_github(replace(clean(), findings=(finding,)), ROOT).splitlines()[0]
    head, _, message = line[2:].partition("::")
    assert head == "error title=NC101 never-updated-stats,file=model.pt,line=1"
    assert message.endswith("%0AFix: 100 %25")
    assert message.count("%0A") == 3
    assert r"59 %25 is\nleft, 100%250A: bn" in message


@pytest.mark.parametrize(
    ("target", "file"),
    [
        ("/project/runs/a.pt", "runs/a.pt"),
        ("a,b:c%.pt", "a%2Cb%3Ac%25.pt"),
        ("../a.pt", "/a.pt"),
    ],
)
def test_files_are_relative_to_the_repository(target: str, file: str) -> None:
    """Commas, colons and percent signs of a name end no property."""
    finding = replace(finding_on("bn"), model=target)
    line = render_github(replace(clean(), findings=(finding,)), ROOT).splitlines()[0]
    assert f",file={file},line=1::" in line
