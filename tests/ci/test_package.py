"""What an index gets: complete, with addresses that lead somewhere, and one version everywhere."""

import email
import email.message
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

import normcheck
from normcheck.report.machines.as_sarif import render_sarif
from normcheck.version import REPOSITORY, VERSION, address_of
from release import outside
from release.build import build, copied, files_of
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@dataclass(frozen=True, slots=True)
class Built:
    """Both distributions, and what an index shows of them."""

    sdist: Path
    wheel: Path
    metadata: email.message.Message


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Built offline from a copy of what git has; an unpacked source distribution has no git."""
    pytest.importorskip("setuptools", minversion="77")
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("no clone")
    folder = tmp_path_factory.mktemp("package")
    sdist, wheel = build(copied(ROOT, folder / "source"), folder / "dist")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    return Built(sdist, wheel, metadata)


def test_the_source_distribution_is_the_repository(built: Built) -> None:
    """Every file that git has, at its place; beside them only what a build writes."""
    with tarfile.open(built.sdist) as archive:
        inside = {member.name.partition("/")[2] for member in archive if member.isfile()}
    assert set(files_of(ROOT)) - inside == set()
    more = {name for name in inside - set(files_of(ROOT)) if ".egg-info/" not in name}
    assert more == {"PKG-INFO", "setup.cfg"}


def test_the_wheel_is_the_package_alone(built: Built) -> None:
    """Every file of it, templates and schemas too, and nothing else that would be imported."""
    with zipfile.ZipFile(built.wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert inside == {name for name in files_of(ROOT) if name.startswith("normcheck/")}
    assert built.wheel.name == f"normcheck-{VERSION}-py3-none-any.whl"


def test_the_version_is_written_once(built: Built) -> None:
    """In ``version.py``; package, module and reports have it from there."""
    assert "version" in PROJECT["dynamic"]
    assert built.metadata["Version"] == VERSION == normcheck.__version__
    alone = re.compile(rf"(?<![\d.=>]){re.escape(VERSION)}(?![\d.])")
    code = [name for name in files_of(ROOT) if name.endswith((".py", ".toml", ".yml"))]
    places = [name for name in code if alone.search((ROOT / name).read_text("utf-8"))]
    assert [name for name in places if not name.startswith("tests/")] == ["normcheck/version.py"]


def test_the_page_on_an_index_has_no_relative_link(built: Built) -> None:
    """Each leads to the repository at this version; in the README itself they stay relative."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    page = str(built.metadata.get_payload(decode=True), "utf-8")
    assert built.metadata["Description-Content-Type"] == "text/markdown"

    def targets(text: str) -> list[str]:
        blocks = MarkdownIt("commonmark").enable("table").parse(text)
        found = [token for block in blocks for token in block.children or ()]
        return [str(token.attrGet("href") or token.attrGet("src") or "") for token in found]

    there, here = filter(None, targets(page)), filter(None, targets(readme))
    seen = 0
    for address, path in zip(there, here, strict=True):
        assert address.startswith(("https://", "#")), address
        if not path.startswith(("https://", "#")):
            seen += 1
            kind = "raw" if path.endswith((".png", ".svg")) else "blob"
            assert address == f"{REPOSITORY}/{kind}/v{VERSION}/{path}"
            assert (ROOT / path.partition("#")[0]).exists()
    assert seen > 20
    code = re.compile("^```.*?^```$", re.DOTALL | re.MULTILINE)
    assert code.findall(page) == code.findall(readme)


def test_addresses_come_from_one_place(built: Built) -> None:
    """Project URLs and the help of SARIF."""
    urls = dict(line.split(", ") for line in built.metadata.get_all("Project-URL", []))
    assert {"Documentation", "Repository", "Changelog", "Issues", "Security"} <= set(urls)
    assert all(url.startswith(REPOSITORY) for url in urls.values())
    assert urls["Changelog"].endswith("CHANGELOG.md")
    sarif = render_sarif(normcheck.scan(ROOT / "sample_models/digits-healthy.pt"), ROOT)
    assert address_of("docs/rules/NC101.md") in sarif


def test_what_an_index_sorts_by(built: Built) -> None:
    """Every operating system on which the tests run, and nothing twice."""
    named = built.metadata.get_all("Classifier", [])
    for system in ("POSIX :: Linux", "MacOS", "Microsoft :: Windows"):
        assert f"Operating System :: {system}" in named
    assert len(named) == len(set(named))


def test_the_trial_of_the_wheel_would_fail_here(tmp_path: Path) -> None:
    """Where torch is, and where the package is that of the checkout."""
    assert "normcheck.version" in outside.foreign(ROOT)
    assert outside.foreign(tmp_path) == []
    done = subprocess.run(
        [sys.executable, ROOT / "release/outside.py", ROOT, "statistics-lost.pt"],
        cwd=ROOT / "sample_models", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "torch was installed with it" in done.stderr
