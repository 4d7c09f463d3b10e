"""The key beside the user's configuration: made once, for its owner alone, or not used."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from normcheck.errors import NormcheckError
from normcheck.fleet import cache_seal as seal
from normcheck.fleet.cache_seal import Seal, users_seal


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the key is to lie."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("NORMCHECK_CACHE_KEY", raising=False)
    return tmp_path / "config" / "normcheck" / "cache-key"


def test_it_is_made_once_for_the_owner_alone(place: Path) -> None:
    """Whoever comes later finds the same one, and nothing is left beside it."""
    made = users_seal().of(b"row")
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert len(place.read_bytes()) == 32
    assert users_seal().of(b"row") == made
    assert list(place.parent.iterdir()) == [place]


def test_many_who_begin_at_once_share_it(place: Path) -> None:
    """Whoever was first made the one that all use."""
    with ThreadPoolExecutor(8) as pool:
        seals = set(pool.map(lambda _: users_seal().of(b"row"), range(32)))
    assert len(seals) == 1


def test_a_file_system_without_hard_links(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another way to put it in place, as whole."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert users_seal().of(b"row") == users_seal().of(b"row")
    assert list(place.parent.iterdir()) == [place]


def test_it_lies_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no other place for configurations is named; a relative one is none."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.delenv("NORMCHECK_CACHE_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    users_seal()
    assert (tmp_path / ".config" / "normcheck" / "cache-key").is_file()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda key: key.chmod(0o640), "can be read by others"),
        (lambda key: key.write_bytes(b"short"), "is damaged"),
        (lambda key: key.write_bytes(b"x" * 33), "is damaged"),
        (lambda key: (key.unlink(), key.mkdir()), "not a file|cannot be read"),
        (lambda key: (key.unlink(), os.mkfifo(key, 0o600)), "is not a file"),
        (lambda key: (key.rename(key.with_name("k")), key.symlink_to("k")), "cannot be read"),
    ],
)
def test_a_key_that_others_may_know_or_that_is_none(place: Path, change: object, said: str) -> None:
    """It is not used, nor replaced: the error says what to do."""
    users_seal()
    assert callable(change)
    change(place)
    with pytest.raises(NormcheckError, match=said) as caught:
        users_seal()
    assert caught.value.hint


def test_there_is_no_place_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No home folder, or one that is a file: an error that says what else to do."""
    monkeypatch.delenv("NORMCHECK_CACHE_KEY", raising=False)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    with pytest.raises(NormcheckError, match="cannot be read") as caught:
        users_seal()
    assert seal.VARIABLE in caught.value.hint

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.delenv("APPDATA", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(NormcheckError, match="no home folder"):
        users_seal()


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there are no owners here")
def test_a_key_of_another_user(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever laid it there knows it."""
    users_seal()
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(NormcheckError, match="another user"):
        users_seal()


def test_a_secret_of_the_environment(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For machines that begin empty; too short a one can be tried out."""
    monkeypatch.setenv("NORMCHECK_CACHE_KEY", "correct horse battery staple")
    made = users_seal().of(b"row")
    assert not place.exists()
    assert users_seal().is_of(made, b"row")
    monkeypatch.setenv("NORMCHECK_CACHE_KEY", "incorrect horse battery staple")
    assert not users_seal().is_of(made, b"row")
    monkeypatch.setenv("NORMCHECK_CACHE_KEY", "short")
    with pytest.raises(NormcheckError, match="fewer than 16"):
        users_seal()


def test_a_seal_is_of_its_parts_in_their_order() -> None:
    """What moves from one part to the next is seen, too."""
    sealed = Seal(b"k" * 32).of(b"ab", b"c")
    assert Seal(b"k" * 32).is_of(sealed, b"ab", b"c")
    for parts in ((b"a", b"bc"), (b"abc",), (b"c", b"ab"), (b"ab", b"c", b""), ()):
        assert not Seal(b"k" * 32).is_of(sealed, *parts)
    assert not Seal(b"K" * 32).is_of(sealed, b"ab", b"c")
