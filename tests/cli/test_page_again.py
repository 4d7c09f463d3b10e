"""A page says with which words its command makes it again."""

import shlex
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.cli.conftest import Normcheck
from tests.conftest import SAMPLES


def command_of(page: str) -> list[str]:
    """The words of the command on a page."""
    found: list[str] = []
    parser = HTMLParser()
    parser.handle_data = found.append  # type: ignore[method-assign]
    parser.feed(page)
    (line,) = (text for text in found if text.endswith(" report.html"))
    return shlex.split(line)


@pytest.mark.parametrize(
    "words",
    [
        ("scan", "a b.pt"),
        ("scan", "*.pt", "--select", "NC1", "--select", "NC2", "--ignore", "NC108", "--strict"),
        ("scan", "a b.pt", "--run", "--input-shape", "1x8x8", "--no-isolation", "--samples", "8"),
        ("diff", "a b.pt", "healthy.pt", "--ranks", "--no-strict"),
    ],
)
def test_the_words_make_the_same_page(
    words: tuple[str, ...], normcheck: Normcheck, tmp_path: Path
) -> None:
    """Flags that were given, quoted as a shell needs them; how it was shown is left out."""
    for name, sample in (("a b.pt", "statistics-lost.pt"), ("healthy.pt", "digits-healthy.pt")):
        (tmp_path / name).write_bytes((SAMPLES / sample).read_bytes())
    page = normcheck(*words, "-f", "html", "--color", "never", "-v", "--exit-zero").out
    again = command_of(page)
    assert again[0] == "normcheck"
    assert set(words) <= set(again)
    assert again[-4:] == ["-f", "html", "-o", "report.html"]
    assert not {"--color", "-v", "--verbose"} & set(again)
    normcheck(*again[1:])
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page


def test_no_secret_is_repeated(normcheck: Normcheck, tmp_path: Path) -> None:
    """Neither of a target nor of data."""
    address = "https://me:secret@127.0.0.1:9/model.pt?token=1234"
    page = normcheck("scan", address, "--data", address, "-f", "html").out
    assert "secret" not in page
    assert "1234" not in page
