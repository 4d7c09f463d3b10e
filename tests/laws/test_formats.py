"""The table of formats: every suffix is one format's, and what a reader takes can be installed."""

import tomllib
from collections import Counter

from normcheck.formats.registry import FORMATS
from normcheck.formats.targets import CHECKPOINT_SUFFIXES
from tests.conftest import ROOT


def test_a_suffix_is_of_one_format() -> None:
    """A folder is searched for all of them, each written as files have it."""
    assert [suffix for suffix, count in Counter(CHECKPOINT_SUFFIXES).items() if count > 1] == []
    assert all(suffix.islower() for suffix in CHECKPOINT_SUFFIXES)
    # Of archives, which hold anything, a whole name may be what says that a model is in it.
    names = [suffix for suffix in CHECKPOINT_SUFFIXES if not suffix.startswith(".")]
    assert names == ["model.tar.gz"]
    assert len({form.name for form in FORMATS}) == len(FORMATS)


def test_every_extra_can_be_installed() -> None:
    """The hint of a reader whose package is missing names an extra that brings it."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    wanted = {form.extra for form in FORMATS if form.extra}
    assert wanted
    for extra in wanted:
        assert any(word.startswith(extra) for word in extras[extra])


def test_no_sign_is_another_formats() -> None:
    """Formats with one sign have one reader, which tells them apart."""
    starts = [
        b"PK\x03\x04",
        b"\x80\x02}q\x00",
        b"\x08\x07\x12\x07pytorch:",
        b"\x10" + bytes(7) + b"{",
    ]
    for start in starts:
        readers = {form.read for form in FORMATS if form.sign(start)}
        assert len(readers) == 1, start
    assert not any(form.sign(b"GGUF") for form in FORMATS)
