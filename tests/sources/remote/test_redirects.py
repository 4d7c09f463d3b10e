"""Servers that lead elsewhere: to themselves, to a host that was allowed, and no further."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import normcheck
from normcheck.config.examination import Examination
from normcheck.report.report import Report
from normcheck.sources.remote import redirects
from tests.sources.remote.server import Web, serving


@pytest.fixture
def other(tmp_path: Path, samples: Path) -> Iterator[Web]:
    """A server that is called localhost, with a file, where ``web`` is called by its number."""
    folder = tmp_path / "other"
    folder.mkdir()
    shutil.copy(samples / "digits-healthy.pt", folder / "model.pt")
    with serving(folder) as served:
        served.address = served.address.replace("127.0.0.1", "localhost")
        yield served


def scanned(web: Web, *allowed: str, path: str = "/model.pt") -> Report:
    return normcheck.scan([f"{web.address}{path}"], Examination(redirects=allowed))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_another_host_is_named_and_not_asked(web: Web, other: Web, status: int) -> None:
    """The error names it, and the flag that allows it; with the flag it is read."""
    web.moved, web.moved_status = {"/model.pt": f"{other.address}/model.pt?sig=s3cr3t"}, status
    (error,) = scanned(web).errors
    host = other.address.removeprefix("http://")
    assert f"127.0.0.1 redirects to {host}" in error.message
    assert error.hint == "if that is right, add --allow-redirects-to localhost"
    assert "s3cr3t" not in error.message + error.hint
    assert other.asked == []
    assert scanned(web, "localhost").models
    assert other.asked


def test_hosts_below_one(web: Web, other: Web) -> None:
    """A star stands for what is below, not for the host itself, nor for what only ends alike."""
    web.moved = {"/model.pt": f"{other.address}/model.pt"}
    assert scanned(web, "*.localhost", "host", "localhost.example", "*.host").errors
    guard = redirects._Guard(("*.cdn.example",), resolver=None)  # type: ignore[arg-type]  # asks nobody
    assert guard._allows("a.cdn.example")
    assert guard._allows("b.a.cdn.example")
    assert not guard._allows("cdn.example")
    assert not guard._allows("evilcdn.example")


def test_the_same_host_is_followed(web: Web, samples: Path) -> None:
    """To other paths, by whole addresses and by parts of them, several times."""
    shutil.copy(samples / "digits-healthy.pt", web.folder / "there.pt")
    web.moved = {"/model.pt": "/next", "/next": f"{web.address}/last", "/last": "there.pt"}
    assert scanned(web).models


def test_a_host_that_was_allowed_leads_no_further(web: Web, other: Web) -> None:
    """What it redirects to is held against the same list."""
    web.moved = {"/model.pt": f"{other.address}/model.pt"}
    other.moved = {"/model.pt": f"{web.address.replace('127.0.0.1', '127.0.0.3')}/model.pt"}
    (error,) = scanned(web, "localhost").errors
    assert "localhost redirects to 127.0.0.3" in error.message


def test_another_port_of_a_host_is_another_server(web: Web, other: Web) -> None:
    """What listens there was not named either."""
    web.moved = {"/model.pt": f"{other.address.replace('localhost', '127.0.0.1')}/model.pt"}
    (error,) = scanned(web).errors
    assert "redirects to 127.0.0.1:" in error.message
    assert other.asked == []


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("ftp://127.0.0.1/model.pt", "redirects to a ftp:// address"),
        ("file:///etc/passwd", "redirects to a file:// address"),
        ("http://[::1", "redirects to what is no address"),
        ("http://x;touch pwned/", "redirects to"),
        ("", "redirects"),
    ],
)
def test_what_is_no_address_of_the_web(web: Web, location: str, said: str) -> None:
    """An error, and nothing of it in a command that a user might copy."""
    web.moved = {"/model.pt": location}
    (error,) = scanned(web).errors
    assert said in error.message or location == ""
    assert "touch" not in error.hint


def test_patterns_and_folders_follow_no_further(web: Web, other: Web) -> None:
    """Listing what lies there asks the same server only."""
    web.moved = {"/runs/": f"{other.address}/"}
    report = scanned(web, path="/runs/*.pt")
    assert report.errors
    assert other.asked == []


PRIVATE = (
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "0.1.2.3", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fd00:ec2::254", "ff02::1",
    "::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "fe80::1%eth0",
)  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public(address: str) -> None:
    """In whatever form they are written."""
    assert not redirects._is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1"])
def test_addresses_that_are(address: str) -> None:
    """Anybody can reach them."""
    assert redirects._is_public(address)


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.1 counts as public, and all else of this machine does not."""
    real = redirects._public
    monkeypatch.setattr(redirects, "_public", lambda a: str(a) == "127.0.0.1" or real(a))
    redirects.session_maker.cache_clear()


@pytest.mark.usefixtures("public")
def test_a_public_server_leads_to_no_private_one(web: Web) -> None:
    """Not even to one that was allowed, which may have meant something else by its name."""
    web.moved = {"/model.pt": "http://127.0.0.2:1/latest/meta-data/"}
    (error,) = scanned(web, "127.0.0.2").errors
    assert "a public server redirects to 127.0.0.2, which is not on the public" in error.message


@pytest.mark.usefixtures("public")
def test_a_name_that_stands_for_a_private_address(
    web: Web, other: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked at where the connection is made, so that it cannot change in between."""

    async def lying(*_: Any, **__: Any) -> list[dict[str, Any]]:
        entry = {"hostname": "x", "port": port, "family": 2, "proto": 0, "flags": 0}
        return [{**entry, "host": "127.0.0.1"}, {**entry, "host": "127.0.0.2"}]

    port = int(other.address.rpartition(":")[2])
    monkeypatch.setattr(aiohttp.DefaultResolver, "resolve", lying)
    web.moved = {"/model.pt": f"http://cdn.example:{port}/model.pt"}
    (error,) = scanned(web, "cdn.example").errors
    assert "a public server redirects to cdn.example, which is not on the public" in error.message
    assert other.asked == []


def test_a_private_address_that_the_user_names(web: Web, samples: Path) -> None:
    """Is asked: this very server is one."""
    shutil.copy(samples / "digits-healthy.pt", web.folder / "model.pt")
    assert scanned(web).models


def test_from_a_safe_way_to_an_open_one() -> None:
    """Not even to the same host: what is secret in the address would be readable on the way."""
    import asyncio
    from types import SimpleNamespace

    from yarl import URL

    def hop(here: str, there: str) -> Any:
        response = SimpleNamespace(headers={"Location": there})
        return SimpleNamespace(url=URL(here), response=response)

    guard = redirects._Guard(("cdn.example",), resolver=None)  # type: ignore[arg-type]  # asks nobody
    look = lambda here, there: asyncio.run(guard.look(None, None, hop(here, there)))  # noqa: E731
    with pytest.raises(normcheck.NormcheckError, match="redirects to a http:// address"):
        look("https://host.example/a", "http://host.example/a")
    with pytest.raises(normcheck.NormcheckError, match="redirects to a http:// address"):
        look("https://host.example/a", "http://cdn.example/a")
    look("http://host.example/a", "https://host.example/a")
    look("https://host.example/a", "https://cdn.example/a")


@pytest.mark.parametrize("word", ["https://cdn.example", "a/b", "*", "*.", "a b", " ", "x*.y"])
def test_the_flag_takes_hosts(command: Any, word: str) -> None:
    """Anything else is an error with an example."""
    ran = command("scan", "x.pt", "--allow-redirects-to", word)
    assert ran.returncode == 2
    assert "not a host" in ran.stderr


def test_the_flag(command: Any, web: Web, other: Web) -> None:
    """The hint of the error is the flag that makes it work, for scan and for diff."""
    web.moved = {"/model.pt": f"{other.address}/model.pt"}
    address = f"{web.address}/model.pt"
    for words in (("scan", address), ("diff", address, address)):
        ran = command(*words)
        assert ran.returncode == 2
        hint = ran.stderr.split("add ")[1].split()[:2]
        assert command(*words, *hint).returncode == 0
