"""Remote file systems, through fsspec: opening, and what lies in a folder.

Imported only where an address is met; a scan of local files needs neither fsspec nor anything
that it opens.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

from normcheck.errors import NormcheckError, UnreadableError
from normcheck.sources.place import RemotePath
from normcheck.sources.remote.http_ranges import Answer, part_of
from normcheck.sources.remote.remote_errors import explained, missing_package

_TALKATIVE = ("gcsfs", "adlfs", "s3fs", "fsspec", "azure", "botocore", "aiobotocore", "google",
              "huggingface_hub")  # fmt: skip
"""Loggers of packages that open addresses."""


def _quieten() -> None:
    """Keep what packages log out of stderr, where nobody asked for logs.

    Some log each attempt with a traceback, and addresses with what is secret in them. Handlers
    that a program has set up get all of it as before.
    """
    for name in _TALKATIVE:
        logger = logging.getLogger(name)
        if not any(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            logger.addHandler(logging.NullHandler())


def connect(place: RemotePath) -> tuple[Any, str]:
    """The file system of an address, and what it calls the place.

    Credentials are the file system's own business: its environment variables, its files.

    Raises:
        UnreadableError: Its package is not installed, or it cannot be set up.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise UnreadableError(
            f"{place}: reading addresses needs the package fsspec",
            "pip install 'normcheck[remote]'",
        ) from None
    _quieten()
    try:
        filesystem, path = url_to_fs(place.uri)
    except (ImportError, ValueError) as error:
        # ValueError: an unknown protocol, or an address that makes no sense to it.
        if isinstance(error, ImportError) or "rotocol" in str(error):
            raise missing_package(place) from None
        raise explained(error, place) from None
    except Exception as error:  # whatever setting up a file system raises
        raise explained(error, place) from None
    return filesystem, path


def forget_listings(place: RemotePath) -> None:
    """Ask anew what lies where: file systems keep what they were told as long as a process runs.

    Raises:
        UnreadableError: As ``connect``.
    """
    connect(place)[0].invalidate_cache()


def reader(place: RemotePath) -> Callable[[int, int], Answer]:
    """A function from start and length in bytes to that part of a file."""
    filesystem, path = connect(place)
    if place.on_the_web:
        from fsspec.asyn import sync

        def of_the_web(start: int, length: int) -> Answer:
            answer: Answer = sync(filesystem.loop, part_of, filesystem, place, start, length)
            return answer

        return of_the_web
    described: list[dict[str, Any]] = []
    exactly = _exactly(filesystem, path)

    def part(start: int, length: int) -> Answer:
        if not described:
            described.append(filesystem.info(path))
        told = described[0]
        if told.get("type") == "directory" or not isinstance(told.get("size"), int):
            raise UnreadableError(f"{place}: a folder, not a file", "end its name with a slash")
        total = int(told["size"])
        end = min(start + length, total)
        data = exactly(start, end) if end > start else b""
        if len(data) > end - start:
            raise UnreadableError(
                f"{place}: the server ignores ranges: reading a part would fetch all its "
                f"{total:,} bytes",
                "download it once, and scan the copy",
            )
        return Answer(data, start, total, "")

    return part


def _exactly(filesystem: Any, path: str) -> Callable[[int, int], bytes]:
    """A function from start and end to these bytes of a file, and no others.

    fsspec's own way, for file systems that have none (Hugging Face's), opens the file for each
    part and reads five megabytes ahead.
    """
    from fsspec import AbstractFileSystem

    if type(filesystem).cat_file is not AbstractFileSystem.cat_file:
        return lambda start, end: bytes(filesystem.cat_file(path, start=start, end=end))
    own = threading.local()  # a file that is open has one position

    def read(start: int, end: int) -> bytes:
        if not hasattr(own, "file"):
            own.file = filesystem.open(path, "rb", cache_type="none")
        own.file.seek(start)
        return bytes(own.file.read(end - start))

    return read


_VERSIONS = ("generation", "ETag", "etag", "e_tag", "md5Hash", "blob_id", "lfs")
"""What stores call that which every change of a file changes. A date is no such thing: two
changes may share it."""


def version_of(place: RemotePath) -> tuple[int, str] | None:
    """Length of a file in bytes, and what its store calls its version.

    Returns:
        None where it has none, and where it cannot be asked: who reads the file will say why.
    """
    try:
        if place.on_the_web:
            answer = reader(place)(0, 1)
            return (answer.total, answer.version) if answer.tagged else None
        filesystem, path = connect(place)
        told: dict[str, Any] = filesystem.info(path)
    except Exception:  # whatever a file system's own library raises
        return None
    named = next((f"{key} {told[key]}" for key in _VERSIONS if told.get(key)), "")
    size = told.get("size")
    return (size, named) if named and isinstance(size, int) else None


def is_folder(place: RemotePath) -> bool:
    """Whether an address is that of a folder.

    Raises:
        UnreadableError: Nobody can tell.
    """
    with_slash = place.uri.endswith("/")
    if place.on_the_web:
        return with_slash  # a web server lists folders as pages, if at all
    filesystem, path = connect(place)
    return with_slash or bool(_asked(place, lambda: filesystem.isdir(path)))


def listed(place: RemotePath) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in a folder, sorted.

    Raises:
        UnreadableError: It cannot be listed.
    """
    filesystem, path = connect(place)
    entries: list[dict[str, Any]] = _asked(place, lambda: filesystem.ls(path, detail=True))
    names: dict[bool, set[str]] = {True: set(), False: set()}
    for entry in entries:
        name = str(entry["name"]).rstrip("/")
        # Some stores keep an empty object in place of a folder, under the folder's own name.
        if name != path.rstrip("/"):
            names[entry.get("type") == "directory"].add(name.rpartition("/")[2])
    return sorted(names[True]), sorted(names[False] - names[True])


def walk(place: RemotePath) -> Iterator[tuple[RemotePath, list[str], list[str]]]:
    """As ``os.walk``, one folder at a time: removing names from the list passes folders over.

    Raises:
        UnreadableError: A folder cannot be listed.
    """
    waiting = [place]
    while waiting:
        here = waiting.pop()
        folders, files = listed(here)
        yield here, folders, files
        waiting.extend(here / name for name in reversed(folders))


def matching(place: RemotePath) -> list[RemotePath]:
    """The files and folders that a pattern names, sorted.

    Raises:
        UnreadableError: The file system cannot tell.
    """
    filesystem, path = connect(place)
    found: list[str] = sorted(_asked(place, lambda: filesystem.glob(path)))
    if place.on_the_web:
        return [RemotePath(address) for address in found]
    # What the address says in front of the path (an account, a container) is kept.
    fixed = place.uri
    while any(sign in fixed for sign in "*?["):
        fixed = fixed.rpartition("/")[0]
    root = path[: len(path) - (len(place.uri) - len(fixed))].rstrip("/")
    return [RemotePath(fixed.rstrip("/") + entry.removeprefix(root)) for entry in found]


def _asked(place: RemotePath, question: Callable[[], Any]) -> Any:
    try:
        return question()
    except NormcheckError:
        raise
    except Exception as error:  # whatever a file system's own library raises
        raise explained(error, place) from None
