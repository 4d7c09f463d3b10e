"""Addresses as values: their parts, and what of them may be shown."""

from pathlib import Path

import pytest

from normcheck.errors import UnreadableError
from normcheck.sources.place import RemotePath, is_remote, place_of, shown, without_secrets
from normcheck.sources.remote.file_systems import connect


@pytest.mark.parametrize(
    ("word", "safe"),
    [
        ("https://host/m.pt", "https://host/m.pt"),
        ("https://me:pw@host/m.pt", "https://***@host/m.pt"),
        ("https://token@host/m.pt", "https://***@host/m.pt"),
        ("https://host/m.pt?a=1&sig=x%3D=#p", "https://host/m.pt?a=***&sig=***#p"),
        ("https://host/m.pt?token", "https://host/m.pt?***"),
        ("s3://key:secret@bucket/m.pt", "s3://***@bucket/m.pt"),
        ("s3://bucket/a@b/m?.pt", "s3://bucket/a@b/m?.pt"),
        ("hf://org/model@v1/m.bin", "hf://org/model@v1/m.bin"),
        ("hf://gpt2@main/m.bin", "hf://gpt2@main/m.bin"),
        ("abfs://box@account.dfs.core.windows.net/m.pt",
         "abfs://box@account.dfs.core.windows.net/m.pt"),
        ("models/a?b=c.pt", "models/a?b=c.pt"),
        ("C:/models/m.pt", "C:/models/m.pt"),
    ],
)  # fmt: skip
def test_what_is_shown(word: str, safe: str) -> None:
    """Users, passwords and signatures are hidden; revisions and containers are no secrets."""
    assert shown(word) == safe
    assert str(place_of(word)) == safe


def test_local_words() -> None:
    """Paths, drives and file: addresses are here."""
    assert not is_remote("a/b.pt")
    assert not is_remote("file:///a/b.pt")
    assert place_of("file:///a/b%20c.pt") == Path("/a/b c.pt")
    assert place_of("a:/b.pt") == Path("a:/b.pt")


def test_parts_of_an_address() -> None:
    """Names, folders and neighbours; a web address keeps its query, which may be a key."""
    index = RemotePath("https://host/dir/model%201.json?sig=x")
    assert index.name == "model 1.json"
    assert (index.parent / "a.pt").uri == "https://host/dir/a.pt?sig=x"
    assert RemotePath("s3://b/dir/").name == "dir"
    assert (RemotePath("s3://b/dir/") / "a.pt").uri == "s3://b/dir/a.pt"
    assert RemotePath("s3://b/dir/a?.pt").name == "a?.pt"


def test_text_of_other_programs() -> None:
    """Errors of libraries quote addresses; what they must not show is taken out."""
    place = RemotePath("https://me:hunter22@host/m.pt?sig=abcdef")
    text = without_secrets(
        "GET https://me:hunter22@host/m.pt?sig=abcdef: me:hunter22 abcdef", place
    )
    assert "hunter22" not in text
    assert "abcdef" not in text


def test_packages_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names what to install."""
    import sys

    with pytest.raises(UnreadableError, match="no installed package opens nowhere") as caught:
        connect(RemotePath("nowhere://bucket/m.pt"))
    assert caught.value.hint
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(UnreadableError, match="needs the package gcsfs") as caught:
        connect(RemotePath("gs://bucket/m.pt"))
    assert "pip install" in caught.value.hint
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(UnreadableError, match="needs the package fsspec"):
        connect(RemotePath("s3://bucket/m.pt"))
