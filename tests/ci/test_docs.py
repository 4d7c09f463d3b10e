"""The documentation: its gate can fail, its links lead somewhere, its menu has every page once."""

import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from normcheck.version import REPOSITORY, VERSION
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

Build = Callable[[], subprocess.CompletedProcess[str]]
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part == "build" for part in path.relative_to(ROOT).parts)
    and "golden" not in path.parts
)

OF_THE_ROOT = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
"""Pages of the site that lie in the repository's root."""


def recipe(verb: str) -> list[str]:
    """The commands of a verb of the Makefile, with this Python's programs."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = re.search(rf"^{verb}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert found is not None
    return [line.strip() for line in found[1].splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the documentation."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (tmp_path / "normcheck").mkdir()
    for name in ("mkdocs.yml", "normcheck/version.py", *OF_THE_ROOT):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def build(folder: Path) -> Build:
    """Builds the copy with the very command of ``make site``."""
    pytest.importorskip("mkdocs")
    (command,) = recipe("site")
    program, *words = shlex.split(command)
    assert program == "$(BIN)/mkdocs"

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mkdocs", *words],
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )

    return run


def test_the_site_builds(build: Build, folder: Path) -> None:
    """As it is; without this, the failures below would prove nothing."""
    done = build()
    assert done.returncode == 0, done.stderr
    assert (folder / "build/site/diff/index.html").exists()
    security = (folder / "build/site/security/index.html").read_text(encoding="utf-8")
    assert 'href="../outputs/#where-it-goes"' in security
    changelog = (folder / "build/site/changelog/index.html").read_text(encoding="utf-8")
    assert 'href="../libraries/"' in changelog


def test_the_site_asks_nobody_else_and_has_coloured_code(build: Build, folder: Path) -> None:
    """No style, script, font or picture of another host; colours need no script."""
    assert build().returncode == 0
    for page in (folder / "build/site").rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:link|script|img)\b[^>]*?(?:href|src)=\"(https?:[^\"]*)", text)
        assert [url for url in loaded if 'rel="canonical"' not in url] == [], page.name
    assert '<span style="color:' in (folder / "build/site/python/index.html").read_text("utf-8")


def test_a_dead_link_of_the_root_fails_the_build(build: Build, folder: Path) -> None:
    """Its pages are looked at like all others."""
    with (folder / "SECURITY.md").open("a", encoding="utf-8") as file:
        file.write("\n[a page](docs/nowhere.md)\n")
    done = build()
    assert done.returncode != 0
    assert "nowhere.md" in done.stderr


def test_every_extra_is_told_of() -> None:
    """On the page of the installation, but for those of developers."""
    page = (ROOT / "docs/install.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra in set(project["optional-dependencies"]) - {"dev", "docs", "fuzz"}:
        assert f"`{extra}`" in page, extra


def test_versions_and_addresses_in_examples_are_the_projects() -> None:
    """What readers copy into a hook or a workflow."""
    page = (ROOT / "docs/ci.md").read_text(encoding="utf-8")
    assert re.findall(r"rev: (\S+)", page) == [f"v{VERSION}"]
    assert re.findall(r"repo: (\S+)", page) == [REPOSITORY]
    owner = REPOSITORY.partition("://")[2].partition("/")[2]
    assert re.findall(r"uses: (\S*normcheck\S*)", page) == [f"{owner}@v{VERSION}"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a page](nowhere.md)", "nowhere.md"),
        ("[a part](ci.md#no-such-part)", "no-such-part"),
        ("[a part of this page](#no-such-part)", "no-such-part"),
        ("[a file of the repository](../SECURITY.md)", "SECURITY.md"),
        ("[an absolute link](/ci.md)", "/ci.md"),
        ("[no file, no address](rules)", "rules"),
        ("![a picture](figures/nothing.png)", "nothing.png"),
    ],
)
def test_a_dead_link_fails_the_build(build: Build, folder: Path, text: str, said: str) -> None:
    """Of every kind, in a page of the site."""
    page = folder / "docs/many.md"
    page.write_text(f"{page.read_text(encoding='utf-8')}\n{text}\n", encoding="utf-8")
    done = build()
    assert done.returncode != 0
    assert said in done.stderr


def test_a_page_in_no_menu_fails_the_build(build: Build, folder: Path) -> None:
    """Nobody would find it."""
    (folder / "docs/lost.md").write_text("# Lost\n", encoding="utf-8")
    done = build()
    assert done.returncode != 0
    assert "lost.md" in done.stderr


def test_what_follows_from_the_rules_is_written_alone(folder: Path) -> None:
    """``make docs-rules``: pages, their menu, the tables; the runs in the README stay."""
    (command,) = recipe("docs-rules")
    program, *words = shlex.split(command)
    assert program == "$(BIN)/python"
    (folder / "sample_models").mkdir()
    shutil.copytree(ROOT / "normcheck/rules", folder / "normcheck/rules")
    (folder / "normcheck/rules/index.py").unlink()
    for name in ("README.md", "pyproject.toml", "sample_models/README.md"):
        shutil.copy(ROOT / name, folder / name)
    page, menu, readme = (folder / n for n in ("docs/rules/NC101.md", "mkdocs.yml", "README.md"))
    page.unlink()
    (folder / "docs/rules/NC999.md").write_text("# Of a rule that is gone\n", encoding="utf-8")
    for file, gone in ((menu, "NC102 reset-stats: "), (readme, "| reset-stats | ")):
        text = file.read_text(encoding="utf-8")
        assert gone in text
        file.write_text(text.replace(gone, ""), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    written = ("docs/rules/NC101.md", "mkdocs.yml", "README.md", "normcheck/rules/index.py")
    for name in written:
        assert (folder / name).read_bytes() == (ROOT / name).read_bytes()
    assert not (folder / "docs/rules/NC999.md").exists()


def test_a_menu_entry_without_a_page_fails_the_build(build: Build, folder: Path) -> None:
    """The other way round."""
    (folder / "docs/diff.md").unlink()
    done = build()
    assert done.returncode != 0
    assert "diff.md" in done.stderr


def entries(menu: object) -> Iterator[tuple[str, str]]:
    """Titles and pages of a menu, at any depth."""
    match menu:
        case list():
            for part in menu:
                yield from entries(part)
        case dict():
            for title, part in menu.items():
                if isinstance(part, str):
                    yield str(title), part
                else:
                    yield from entries(part)
        case _:
            raise AssertionError(f"a page without a title: {menu}")


def test_the_menu_has_every_page_once() -> None:
    """By itself mkdocs does not mind a page that is listed twice."""
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    titles, pages = zip(*entries(menu), strict=True)
    assert sorted(pages) == sorted(set(pages))
    assert sorted(titles) == sorted(set(titles))
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert set(pages) == there | {name.lower() for name in OF_THE_ROOT}


def inline(page: Path) -> Iterator[Token]:
    """The pieces of a page's text; what stands in code blocks is not among them."""
    for block in MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8")):
        yield from block.children or ()


def links(page: Path) -> Iterator[str]:
    """Where the links and pictures of a page lead, the addresses of other hosts aside."""
    for token in inline(page):
        target = token.attrGet("href") or token.attrGet("src")
        if target and not re.match(r"[a-z][a-z+]+:", str(target)):
            yield str(target)


def anchors(page: Path) -> set[str]:
    """The parts of a page that a link can name, as the repository's hosts call them."""
    found: list[str] = []
    tokens = MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8"))
    for opened, text in itertools.pairwise(tokens):
        if opened.type == "heading_open":
            words = re.sub(r"[^\w\- ]", "", text.content.lower()).replace(" ", "-")
            found.append(f"{words}-{n}" if (n := found.count(words)) else words)
    return set(found)


def dead(page: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    gone = []
    for link in links(page):
        name, _, part = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (part and part not in anchors(target)):
            gone.append(link)
    return gone


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_of_the_repository_lead_somewhere(page: Path) -> None:
    """README, CONTRIBUTING, SECURITY and all others, as one reads them where the code lies."""
    assert dead(page) == []


def test_a_dead_link_of_the_repository_is_found(tmp_path: Path) -> None:
    """A page, a part of a page, a picture; code and other hosts are no links of ours."""
    page = tmp_path / "page.md"
    page.write_text(
        "# A part, with a comma\n\n[1](gone.md) [2](#gone) ![3](gone.png) [4](page.md#gone)\n"
        "[5](page.md#a-part-with-a-comma) [6](https://example.org/x#y) `[7](code.md)`\n"
        "\n| a |\n|---|\n| [8](in-a-table.md) |\n",
        encoding="utf-8",
    )
    assert dead(page) == ["gone.md", "#gone", "gone.png", "page.md#gone", "in-a-table.md"]


BEGINS = (
    "A|An|At|By|For|How|If|In|Its?|Nothing|Of|On|The|Th[ei]se?|There|They|What|When|Where|Who|With"
)
"""Words that have a capital at the start of a sentence only."""

_CARRY_ON = (
    "bullet_list_open",
    "ordered_list_open",
    "fence",
    "code_block",
    "table_open",
    "html_block",
)
"""What may complete a paragraph that does not end with a full stop."""


def broken(page: Path) -> list[str]:
    """Paragraphs that lost a piece: a sentence begins within another, or the last has no end."""
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    said = []
    for place, text in enumerate(tokens):
        if text.type != "inline" or tokens[place - 1].type != "paragraph_open" or text.level > 1:
            continue
        pieces = text.children or []
        words = "".join(piece.content or " " for piece in pieces if piece.type != "image")
        goes_on = any(block.type in _CARRY_ON for block in tokens[place + 2 : place + 3])
        if re.search(rf"[a-z,] ({BEGINS}) [a-z]", words) or not (
            goes_on or re.search(r"\W$", words) or not words.strip()
        ):
            said.append(text.content)
    return said


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_paragraphs_are_whole(page: Path) -> None:
    """No sentence of the documentation breaks off in its middle."""
    assert broken(page) == []


def test_a_paragraph_that_breaks_off_is_found(tmp_path: Path) -> None:
    """In its middle, and at its end."""
    page = tmp_path / "page.md"
    page.write_text(
        "# A Title\n\n![a picture](a.png)\n\n"
        "Believed only after the bytes The file is opened. All of it.\n\n"
        "Whole. The next one,\nIt seems.\n\nIt ends with the\n\n"
        "This goes on where\n\n- The list begins.\n",
        encoding="utf-8",
    )
    assert [text.split()[0] for text in broken(page)] == ["Believed", "Whole.", "It"]
