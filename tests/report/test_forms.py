"""What holds for every form of the report: golden files, all lists, hostile names, bytes."""

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from normcheck.report.forms import NAMES, form_of
from normcheck.report.people.text_style import TextStyle
from tests.conftest import ROOT as PROJECT
from tests.report.everything import MACHINE_FORMS, clean, everything, render, text_of

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parent / "golden"
ROOT = Path("/project")
ENDINGS = {
    "text": "txt",
    "sarif": "sarif",
    "junit": "xml",
    "markdown": "md",
    "json": "json",
    "json-lines": "jsonl",
}
FORMS = ("text", *MACHINE_FORMS)


@pytest.fixture(autouse=True)
def _in_samples(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(samples)


def rendered(form: str, kind: str) -> str:
    report = everything() if kind == "everything" else clean()
    if form == "text":
        return text_of(report, TextStyle())
    return render(report, form, ROOT)


@pytest.mark.parametrize("kind", ["everything", "clean"])
@pytest.mark.parametrize("form", FORMS)
def test_golden(form: str, kind: str) -> None:
    """The report is what somebody has looked at; NORMCHECK_UPDATE_GOLDEN=1 writes it anew."""
    # How many rules there are is told, and is no matter of a form.
    text = re.sub(r"\d+ of \d+ rules", "N of M rules", rendered(form, kind))
    golden = GOLDEN / f"{kind}.{ENDINGS.get(form, form)}"
    if os.environ.get("NORMCHECK_UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")
    assert text.endswith("\n")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_every_list(form: str) -> None:
    """Findings, suppressed ones with their reason, skipped, errors and idle suppressions."""
    if form == "text":
        style = TextStyle(verbose=True, errors=True)
        text = " ".join(text_of(everything(), style).split())
    else:
        text = " ".join(rendered(form, "everything").split())
    for listed in (
        "NC104",  # an error
        "NC504",  # an info
        "were never updated",
        "no such file",
        r"neck.\*" if form == "markdown" else "neck.*",
    ):
        assert listed in text
    assert "re-estimated on load" in text
    assert "normcheck-baseline.json" in text
    assert "needs the module tree" in text
    assert "not a checkpoint format" in text


def test_every_form_has_a_name_and_a_suffix_of_its_own() -> None:
    """A file that writes a form of the report is known by the form's name, and by no other."""
    homes = [
        import_module(f"normcheck.report.{folder}.{file.stem}")
        for folder in ("people", "machines", "page")
        for file in sorted((PROJECT / "normcheck/report" / folder).glob("*.py"))
    ]
    found = {home.FORM.name: home.FORM for home in homes if hasattr(home, "FORM")}
    assert set(NAMES) == {*found, "json-v1"}
    assert all(form_of(name) is form for name, form in found.items())
    assert len({form.suffix for form in found.values()}) == len(found) - 1  # .txt is text, too


def test_an_unknown_form_is_a_mistake_in_the_code() -> None:
    """The command line lets no other word through."""
    with pytest.raises(ValueError, match="xml"):
        render(clean(), "xml", ROOT)


def test_json_v1_is_pinned() -> None:
    """``json`` is version 1 today, and ``json-v1`` stays it."""
    assert render(clean(), "json", ROOT) == render(clean(), "json-v1", ROOT)


def test_hash_seeds_do_not_show(samples: Path, tmp_path: Path) -> None:
    """Two runs on the same input give the same bytes in every form."""
    runs = []
    for seed in ("1", "77"):
        folder = tmp_path / seed
        folder.mkdir()
        words = [sys.executable, "-m", "normcheck", "scan", ".", "missing.pt"]
        for form in FORMS:
            words += ["-f", form, "-o", str(folder / form)]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        result = subprocess.run(
            words, cwd=samples, env=environment, capture_output=True, check=False
        )
        assert result.returncode == 2, result.stderr
        runs.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert set(runs[0]) == set(FORMS)
    assert runs[0] == runs[1]
