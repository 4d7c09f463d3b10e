"""Names from a scanned file cannot be markup, links, mentions or commands in any form."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from normcheck.report.machines.json_text import json_line, json_text, spelt
from normcheck.report.people.text_style import TextStyle
from normcheck.report.report import Report
from normcheck.wording import printable
from tests.report.everything import HOSTILE, MACHINE_FORMS, finding_on, hostile, render, text_of

ROOT = Path("/project")
COMMAND = re.compile(r"^\s*::[a-z-]+")
OLD_COMMAND = re.compile(r"##\[")
OF_SERVICES = re.compile(
    r"##\w*\[|section_(start|end):\d+:|travis_(fold|time):|^(---|\+\+\+|~~~|\^\^\^)( |$)"
)
"""What Azure Pipelines, TeamCity, GitLab, Travis CI and Buildkite look for in a log."""
SHAPELESS = "\u115f\u1160\u2800\u3164\uffa0"


@pytest.fixture(autouse=True)
def _in_samples(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(samples)


def commands(line: str) -> bool:
    """Whether GitHub's runner would take a line of a log for a command."""
    return bool(COMMAND.search(line) or OLD_COMMAND.search(line))


@pytest.mark.parametrize("width", [40, 61, 80, 200])
@pytest.mark.parametrize("verbose", [False, True])
def test_text_moves_no_cursor_and_commands_no_runner(width: int, *, verbose: bool) -> None:
    """No control character, no line that a CI runner takes for a command, at any width."""
    style = TextStyle(width=width, verbose=verbose, errors=True)
    text = text_of(hostile(), style)
    assert all(c.isprintable() for c in text.replace("\n", ""))
    assert not any(commands(line) for line in text.splitlines())
    assert "[red]" in text.replace("\n", "")


@pytest.mark.parametrize("form", [*MACHINE_FORMS, "text"])
def test_every_form_may_be_shown_in_a_log(form: str) -> None:
    """Nothing of it is a message to a CI service, turns the writing around or is unseen."""
    texts = [render(hostile(), form, ROOT)] if form != "text" else [
        text_of(hostile(), TextStyle(width=width, verbose=True, errors=True))
        for width in (20, 33, 80, 300)
    ]  # fmt: skip
    for text in texts:
        # Joins words in Markdown so that no link is made of them; it is ours.
        ours = {"\n"} | {"markdown": {"\u2060"}, "junit": {"\t"}}.get(form, set())
        assert all(c.isprintable() and c not in SHAPELESS for c in set(text) - ours)
        assert not [line for line in text.splitlines() if OF_SERVICES.search(line)]


@pytest.mark.parametrize("form", MACHINE_FORMS)
def test_every_form_can_be_written(form: str) -> None:
    """Half a surrogate pair, which UTF-8 has no bytes for, stops no output."""
    assert render(hostile(), form, ROOT).encode("utf-8")


@pytest.mark.parametrize("form", ["json", "sarif"])
def test_json_says_every_name(form: str) -> None:
    """A parser gets the names back; only the lone surrogate is spelt out."""
    texts = json.dumps(json.loads(render(hostile(), form, ROOT)), ensure_ascii=False)
    for name in HOSTILE[:-2]:
        assert json.dumps(name, ensure_ascii=False)[1:-1] in texts
    assert r"\\ud800" in texts


def test_sarif_has_neither_links_nor_placeholders() -> None:
    """In a message ``[text](target)`` is a link and ``{0}`` an argument: names make neither."""
    run = json.loads(render(hostile(), "sarif", ROOT))["runs"][0]
    notes = run["invocations"][0]
    messages = [result["message"]["text"] for result in run["results"]]
    messages += [note["message"]["text"] for note in notes["toolExecutionNotifications"]]
    messages += [note["message"]["text"] for note in notes["toolConfigurationNotifications"]]
    assert len(messages) == 5 * len(HOSTILE)
    for message in messages:
        assert "](" not in message
        assert not re.search(r"(?<!\{)(\{\{)*\{\d", message)


def test_junit_is_xml() -> None:
    """Characters that XML 1.0 cannot hold are spelt out; nothing ends an element."""
    root = ET.fromstring(render(hostile(), "junit", ROOT))  # noqa: S314  (ours)
    assert {element.tag for element in root.iter()} == {
        "testsuites", "testsuite", "testcase", "failure", "skipped", "error", "system-out",
        "properties", "property",
    }  # fmt: skip
    suites = root.findall("testsuite")
    assert any(printable(HOSTILE[4]) in suite.get("name", "") for suite in suites)


def test_annotations_are_the_tools_own() -> None:
    """Every command line is one that was meant, and a name adds no property to it."""
    lines = render(hostile(), "github", ROOT).splitlines()
    found = [line for line in lines if commands(line)]
    assert len(found) == 3 * len(HOSTILE)
    for line in found:
        head, _, message = line.removeprefix("::").partition("::")
        command, _, properties = head.partition(" ")
        assert command in ("error", "warning", "notice")
        keys = [part.partition("=")[0] for part in properties.split(",")]
        assert keys in (["title", "file", "line"], ["title"])
        assert re.fullmatch(r"(?:[^%]|%25|%0A|%0D)*", message)
        assert "##[" not in line
    unescaped = "".join(found).replace("%0A", "\n").replace("%25", "%")
    assert printable(HOSTILE[7]) in unescaped


class _Tags(HTMLParser):
    """The tags, the text outside of code, and the attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.cells = 0
        self.prose = ""
        self.code = ""
        self._inside = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.cells += tag in ("td", "th")
        self.attributes |= {name for name, _ in attrs}
        self._inside += tag == "code"

    def handle_endtag(self, tag: str) -> None:
        self._inside -= tag == "code"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.code += data
        else:
            self.prose += data


def _page() -> _Tags:
    return _page_of(render(hostile(), "markdown", ROOT))


def _page_of(markdown: str) -> _Tags:
    page = _Tags()
    html = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    page.feed(html.render(markdown))
    return page


def test_markdown_has_no_markup_of_a_name() -> None:
    """No link, image, script or heading comes from a name, and the table keeps its columns."""
    page = _page()
    assert page.tags == {
        "h3", "table", "thead", "tbody", "tr", "th", "td", "strong", "br", "code",
        "details", "summary", "ul", "li",
    }  # fmt: skip
    assert page.attributes == {"open"}
    rows = [line for line in render(hostile(), "markdown", ROOT).splitlines() if line[0:1] == "|"]
    assert len(rows) == 2 + len(HOSTILE)
    # In prose nothing is left that GitHub would make a mention, a reference or a link of.
    assert not re.search(r"@\w|#\d|://|(?i:www\.|gh-\d)", page.prose)


def test_markdown_shows_names_as_they_are() -> None:
    """What a reader sees in code is the name, with what cannot be seen spelt out."""
    code = _page().code
    for name in HOSTILE:
        assert printable(name) in code


NAMES = st.lists(
    st.one_of(
        st.sampled_from(list(":#[]|`<>&%{}\\@*_~$+^-\n\r\t\x1b\x00 \ud800\udfff\u202e\u3164")),
        st.sampled_from(["##vso[", "section_end:1:", "travis_time:", "---", "+++ "]),
        st.characters(),
    ),
    max_size=30,
).map("".join)


@settings(max_examples=60, deadline=None)
@given(NAMES, NAMES)
def test_any_name_in_any_form(layer: str, text: str) -> None:
    """Whatever a file holds: every form stays what it is, and commands nothing."""
    finding = finding_on(layer, where=text, text=text or "x")
    report = Report("1", (), (finding,), (), (), ())
    assert json.loads(render(report, "json", ROOT))["findings"][0]["rule"] == "NC101"
    assert len(json.loads(render(report, "sarif", ROOT))["runs"][0]["results"]) == 1
    ET.fromstring(render(report, "junit", ROOT))  # noqa: S314  (ours)
    annotations = render(report, "github", ROOT).splitlines()
    assert sum(commands(line) for line in annotations) == 1
    rows = [line for line in render(report, "markdown", ROOT).splitlines() if line[:1] == "|"]
    assert len(rows) == 3
    page = _page_of(render(report, "markdown", ROOT))
    assert page.attributes == set()
    assert page.tags <= {
        "h3", "table", "thead", "tbody", "tr", "th", "td", "strong", "br", "code",
    }  # fmt: skip
    assert page.cells == 10


@given(NAMES)
def test_printable_is_harmless_and_says_it_once(text: str) -> None:
    """One line of visible characters, in which no runner finds a command."""
    shown = printable(text)
    assert all(c.isprintable() for c in shown)
    assert "::" not in shown
    assert not OF_SERVICES.search(shown)
    assert not set(shown) & set(SHAPELESS)
    assert printable(shown) == shown


@given(NAMES)
@example("a\x7fz")
@example("a\x7f\xe9")
def test_json_says_the_same_whatever_it_may_not_show(text: str) -> None:
    """What is written as a number is the same text to a parser."""
    for written in (json_text({"name": text}), json_line({"name": text})):
        assert all(c.isprintable() for c in written.replace("\n", ""))
        assert not OF_SERVICES.search(written)
        assert json.loads(written)["name"] == spelt(text)
