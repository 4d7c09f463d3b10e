"""The page: everything on it, hostile names, and a real browser at two widths."""

import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

import normcheck
from normcheck.errors import UsageError
from normcheck.repair.repair_result import Emergency, LayerRepair
from normcheck.report.form import View
from normcheck.report.forms import form_of
from normcheck.report.page import template
from normcheck.report.page.svg import Axes
from tests.conftest import PATIENCE
from tests.report.everything import HOSTILE, clean, everything, hostile, hostile_repair, render

pytest.importorskip("jinja2")

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
WIDTHS = (360, 1280)


@pytest.fixture(autouse=True)
def _in_samples(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(samples)


class Reader(HTMLParser):
    """The text of a page, and its tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._within: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._within and self._within.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self._within):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page_of(report: normcheck.Report) -> str:
    return render(report, "html", Path())


def test_every_list_is_there() -> None:
    """Findings, suppressed ones with their reason, skipped, errors and idle suppressions."""
    text = Reader(page_of(everything())).text
    for listed in (
        "NC104", "NC504", "were never updated", "no such file", "neck.*", "re-estimated on load",
        "normcheck-baseline.json", "needs the module tree", "not a checkpoint format",
        "Models, the worst first",
    ):  # fmt: skip
        assert listed in text, listed


def test_the_verdict_comes_first_and_all_that_repeats_it_last() -> None:
    """Hash, versions, command."""
    page = page_of(normcheck.scan("statistics-lost.pt"))
    text = Reader(page).text
    assert text.index("never updated") < text.index("running_mean is 0")
    assert re.search(r"SHA-256 [0-9a-f]{64}", text)
    assert "normcheck scan statistics-lost.pt -f html" in text
    assert f"normcheck {normcheck.__version__}" in text
    assert page == page_of(normcheck.scan("statistics-lost.pt"))


def test_nothing_is_fetched_and_headings_are_in_order() -> None:
    """No address, one h1, no level left out; each figure has words."""
    report = normcheck.scan(["digits-healthy.pt"], figures=True)
    reader = Reader(page_of(report))
    assert [attrs for _, attrs in reader.tags if attrs.get("src") or attrs.get("srcset")] == []
    links = [attrs["href"] or "" for _, attrs in reader.tags if "href" in attrs]
    assert all(link.startswith(("#", "data:")) for link in links)
    levels = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    figures = [attrs for tag, attrs in reader.tags if tag == "svg"]
    assert len(figures) == 2 + 5
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in figures)


def test_pages_of_rules_are_read_as_pages() -> None:
    """Headings, lists and code below those of the finding; nothing leads out, no escape shows."""
    for code in ("NC101", "NC401", "NC108"):
        text = str(template._meaning(code))
        assert "<h4>What it does</h4>" in text
        assert "<li>" in text or "<p>" in text
        assert "\\n" not in text
        assert "<a " not in text
        assert not re.search("<h[1-35-6]", text)
    assert template._meaning("NC999") == ""
    page = page_of(everything())
    assert "<h4>What it does</h4>" in page


def test_labels_of_axes_have_room() -> None:
    """A long number moves the frame; it is not cut off at the edge of the figure."""
    for top in (0.5, 48_544.0, -1.234e-05, 65_504.0):
        frame = Axes("x", (0, 1), (min(0.0, top), max(1.0, top)), y_label="running_var")
        svg = frame.svg()
        for x, word in re.findall(r'x="(\d+)" y="[^"]*" text-anchor="end">([^<]+)<', svg):
            assert int(x) - 6.6 * len(word) >= 16 or len(word) < 5, (top, word)


def contrast(one: str, other: str) -> float:
    """Of two colours, as WCAG 2.2 has it."""

    def luminance(colour: str) -> float:
        digits = colour.lstrip("#")
        digits = "".join(2 * d for d in digits) if len(digits) == 3 else digits
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_text_can_be_read_in_every_light() -> None:
    """4.5 to 1, in light, dark and on paper, on the ground and on panels."""
    assert contrast("#fff", "#000000") == pytest.approx(21)
    style = Path(template.__file__).with_name("templates").joinpath("page.css").read_text("utf-8")
    schemes = [
        dict(re.findall(r"--(\w+): (#[0-9a-f]+)", block))
        for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    ]
    assert len(schemes) == 3
    for colours in schemes:
        for text in ("text", "soft", "error", "warning", "good", "mark"):
            for ground in ("back", "panel"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground, colours)


@pytest.mark.parametrize("kind", ["scan", "fix"])
def test_hostile_names_are_text(kind: str) -> None:
    """No tag, no attribute, no script of theirs; what has no shape is spelt out."""
    page = page_of(hostile()) if kind == "scan" else hostile_repair().to_html()
    ours = {tag for tag, _ in Reader(page_of(everything())).tags} | {"details", "summary", "svg"}
    ours |= {"figure", "figcaption"}
    reader = Reader(page)
    assert {tag for tag, _ in reader.tags} <= ours | {"rect", "text", "polyline", "title", "circle"}
    assert sum(tag == "script" for tag, _ in reader.tags) == 1
    assert not any(name.startswith("on") for _, attrs in reader.tags for name in attrs)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2066\ud800]", page)
    assert "<script>alert(1)</script>" in reader.text
    assert HOSTILE[0].partition("\n")[0] in reader.text


def test_of_many_each_has_a_link_and_the_healthy_are_folded() -> None:
    """The worst first; what is healthy is named with its facts, without figures and layers."""
    healthy = clean().models[0]
    sick = everything()
    many = replace(
        sick, models=(*sick.models, *(replace(healthy, target=f"m{i}.pt") for i in range(30)))
    )
    page = page_of(many)
    reader = Reader(page)
    sections = [attrs["id"] for tag, attrs in reader.tags if tag == "section" and "id" in attrs]
    links = [attrs["href"] for tag, attrs in reader.tags if tag == "a"]
    assert [f"#{section}" for section in sections] == links
    assert len(links) == len(set(links)) == len(many.models)
    loud = page.partition("Models without errors or warnings</h2>")
    assert loud[0].count("<section id=") < 10 < loud[2].count("<section id=")
    assert "m29.pt" in loud[2]
    assert "6 layers" in loud[2]
    assert "<table" not in loud[2]
    assert "BatchNorm2d" in loud[0]


def test_comparisons_and_repairs_have_pages(tmp_path: Path) -> None:
    """Trends of a series; what was done, and what was refused."""
    files = ["too-few-batches.pt", "too-few-batches-mild.pt", "digits-healthy.pt"]
    text = Reader(normcheck.diff(*files).to_html()).text
    assert "Trend" in text
    assert "normcheck diff too-few-batches.pt" in text
    repair = normcheck.fix("mixed-modes-module.pt", tmp_path / "fixed.pt", modes="eval")
    assert "Repaired" in Reader(repair.to_html(tmp_path / "fix.html")).text
    assert (tmp_path / "fix.html").read_text(encoding="utf-8") == repair.to_html()


def test_the_page_of_a_repair_tells_what_was_done(tmp_path: Path) -> None:
    """Both hashes, the backup, and the command that does it again; or why it was refused."""
    old = Path("mixed-modes-module.pt").read_bytes()
    file = tmp_path / "module.pt"
    file.write_bytes(old)
    text = Reader(normcheck.fix(file, in_place=True, modes="eval").to_html()).text
    assert text.index("Repaired") < text.index("2 of 21 modules set from train to eval mode")
    assert hashlib.sha256(old).hexdigest() in text
    assert hashlib.sha256(file.read_bytes()).hexdigest() in text
    assert f"The file as it was is {file}.bak" in text
    assert f"normcheck fix {file} --modes eval --in-place" in text
    model = hostile_repair().models[0]
    assert model.estimated is not None
    emergency = Emergency("NC101", 0.7, "", ())
    model = replace(model, estimated=replace(model.estimated, emergency=emergency, objections=()))
    text = Reader(replace(hostile_repair(), models=(model,)).to_html()).text
    assert text.index("▲ Repaired") < text.index("AN EMERGENCY REPAIR, from no data")
    refused = replace(
        hostile_repair(), written=None, target="a model.pt", asked=("--data", "x y.npz", "-o", "b")
    )
    text = Reader(refused.to_html()).text
    assert "Refused: nothing was written" in text
    assert "normcheck fix 'a model.pt' --data 'x y.npz' -o b" in text


def test_without_jinja2_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is scanned."""
    monkeypatch.setitem(sys.modules, "jinja2", None)
    template._environment.cache_clear()
    with pytest.raises(UsageError, match="jinja2") as caught:
        form_of("html").scan(View())
    assert "normcheck[html]" in caught.value.hint
    template._environment.cache_clear()


def test_other_forms_do_not_import_jinja2() -> None:
    """A scan as text, in a process of its own."""
    code = (
        "import sys; from normcheck.cli.main import main\n"
        "try: main(['scan', '-e', 'digits-healthy.pt'])\n"
        "except SystemExit: pass\n"
        "assert 'jinja2' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def pages() -> dict[str, str]:
    deep = clean().models[0]
    longest = replace(
        deep.layers[0], path="backbone." + "very_long_name." * 12, rules=("NC101",) * 9
    )
    wide = replace(clean(), models=(replace(deep, layers=(longest,) * 60, target="x" * 200),))
    files = ["too-few-batches.pt", "too-few-batches-mild.pt", "digits-healthy.pt"]
    every = hostile_repair()
    estimated = every.models[0].estimated
    assert estimated is not None
    layers = tuple(LayerRepair(f"backbone.{'block.' * i}norm", 0.4 * i, 3.0) for i in range(30))
    model = replace(every.models[0], estimated=replace(estimated, layers=layers))
    return {
        "one": page_of(normcheck.scan("digits-healthy.pt", figures=True)),
        "large numbers": page_of(normcheck.scan("half-precision-damage.pt", figures=True)),
        "everything": page_of(everything()),
        "hostile": page_of(hostile()),
        "wide": page_of(wide),
        "diff": normcheck.diff(*files).to_html(),
        "diff by full names": normcheck.diff(*(Path(f).resolve() for f in files)).to_html(),
        "fix": replace(every, models=(model,)).to_html(),
        "fix hostile": every.to_html(),
    }


MEASURE = """<!doctype html><meta charset="utf-8"><body><script>
const pages = %s, widths = %s, found = {};
let left = Object.keys(pages).length * widths.length;
for (const [name, page] of Object.entries(pages)) for (const width of widths) {
  const frame = document.createElement("iframe");
  frame.style.cssText = `width:${width}px;height:800px;border:0`;
  frame.addEventListener("load", () => {
    const root = frame.contentDocument.documentElement;
    for (const folded of root.querySelectorAll("details")) folded.open = true;
    const right = (e) => Math.round(e.getBoundingClientRect().right);
    const over = [...root.querySelectorAll("body *")].filter(
      (e) => right(e) > width || (getComputedStyle(e).overflow === "hidden" && e.tagName !== "svg"
        && e.scrollWidth > e.clientWidth));
    const cut = [...root.querySelectorAll("svg text")].filter((e) => {
      const [word, box] = [e, e.closest("svg")].map((x) => x.getBoundingClientRect());
      return word.left < box.left - 1 || word.right > box.right + 1
        || word.top < box.top - 1 || word.bottom > box.bottom + 1;
    });
    const room = (e) => e.getBoundingClientRect().width;
    const squeezed = [...root.querySelectorAll("dl.facts dd")].filter(
      (e) => room(e) < 0.45 * room(e.parentElement));
    found[`${name} ${width}`] = {
      squeezed: squeezed.map((e) => e.textContent).slice(0, 5),
      cut: cut.map((e) => e.textContent).slice(0, 5),
      width: root.scrollWidth, over: over.map((e) => e.tagName).slice(0, 5),
      requests: frame.contentWindow.performance.getEntriesByType("resource").length,
      sorted: root.querySelectorAll("th button").length,
    };
    if (!--left) {
      const out = document.createElement("pre");
      out.id = "found"; out.textContent = JSON.stringify(found);
      document.body.replaceChildren(out);
    }
  });
  frame.srcdoc = page;
  document.body.append(frame);
}
</script></body>"""


@pytest.mark.slow
@pytest.mark.skipif(not BROWSER, reason="no Chromium here")
def test_in_a_browser(tmp_path: Path) -> None:
    """No console message, no request, and nothing is cut off or sticks out at either width."""
    contents = json.dumps(pages()).replace("</", "<\\/")
    file = tmp_path / "measure.html"
    file.write_text(MEASURE % (contents, json.dumps(WIDTHS)), encoding="utf-8")
    done = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=60000",
            "--dump-dom", file.as_uri(),
        ],
        capture_output=True, text=True, timeout=PATIENCE, check=True,
        env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert said == []
    found = re.search(r'<pre id="found">(.*)</pre>', done.stdout, re.DOTALL)
    assert found is not None, done.stdout[-2000:]
    measured = json.loads(found[1].replace("&gt;", ">"))
    assert len(measured) == len(pages()) * len(WIDTHS)
    for name, seen in measured.items():
        assert seen["width"] <= int(name.rpartition(" ")[2]), (name, seen)
        assert seen["over"] == [], (name, seen)
        assert seen["cut"] == [], (name, seen)
        assert seen["squeezed"] == [], (name, seen)
        assert seen["requests"] == 0, (name, seen)
        assert seen["sorted"], (name, seen)
