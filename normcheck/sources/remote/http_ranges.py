"""Parts of a web file, asked for so that a server without ranges cannot send it all.

fsspec's own reader of web files takes whatever comes; here the answer's head is looked at
before its body, and its size comes from the first answer: no second question, and addresses
that are signed for GET alone work.
"""

from typing import Any

from normcheck.errors import UnreadableError
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.sources.place import RemotePath

MOST_WHOLE = 8 << 20
"""Bytes of a file that is read whole where its server knows no ranges."""
_PIECE = 1 << 20


@lazy_dataclass()
class Answer:
    """One part of a file."""

    data: bytes
    start: int
    """Where in the file it begins: 0 where the server sent all of it."""
    total: int
    """Length of the whole file."""
    version: str
    """ETag or date: a file that changes while it is read shows by it. May be empty."""
    tagged: bool = False
    """Whether it is an ETag, which every change changes."""


class StatusError(Exception):
    """The server answered with a status that is no success."""

    def __init__(self, status: int) -> None:
        """Without the address, which may be secret."""
        super().__init__(f"status {status}")
        self.status = status


async def part_of(filesystem: Any, place: RemotePath, start: int, length: int) -> Answer:
    """Up to ``length`` bytes from ``start``.

    Args:
        filesystem: fsspec's ``HTTPFileSystem``, for its session and settings.
        place: The file.
        start: In bytes.
        length: In bytes; fewer come back at the end of the file.

    Raises:
        StatusError: No success.
        UnreadableError: The server ignores ranges, and the file is large.
    """
    session = await filesystem.set_session()
    settings = dict(filesystem.kwargs)
    headers = {
        **settings.pop("headers", {}),
        "Range": f"bytes={start}-{start + length - 1}",
        # A part of a packed body cannot be unpacked.
        "Accept-Encoding": "identity",
    }
    async with session.get(
        filesystem.encode_url(place.uri), headers=headers, **settings
    ) as response:
        tag = response.headers.get("ETag") or ""
        version = tag or response.headers.get("Last-Modified") or ""
        tagged = bool(tag) and not tag.startswith("W/")
        if response.status == 416:
            return Answer(b"", start, _total(response.headers) or 0, version, tagged)
        if response.status == 206:
            total = _total(response.headers)
            if total is None:
                raise UnreadableError(
                    f"{place}: the server sends ranges without saying how long the file is",
                    "download the file, and scan the copy",
                )
            return Answer(await _body(response, length), start, total, version, tagged)
        if response.status != 200:
            raise StatusError(response.status)
        return await _whole(response, place, version)


async def _whole(response: Any, place: RemotePath, version: str) -> Answer:
    """The answer of a server that ignores ranges, where that is not too much."""
    told = response.headers.get("Content-Length", "")
    size = int(told) if told.isdecimal() else None
    if size is None or size <= MOST_WHOLE:
        data = await _body(response, MOST_WHOLE + 1)
        if len(data) <= MOST_WHOLE:
            return Answer(data, 0, len(data), version)
    cost = f"all its {size:,} bytes" if size is not None else "the whole file, of unknown size"
    raise UnreadableError(
        f"{place}: the server ignores ranges: reading a part would fetch {cost}",
        "download it once (curl -O), and scan the copy",
    )


async def _body(response: Any, most: int) -> bytes:
    pieces: list[bytes] = []
    missing = most
    while missing > 0:
        piece = await response.content.read(min(missing, _PIECE))
        if not piece:
            break
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)


def _total(headers: Any) -> int | None:
    """The number behind the slash of ``Content-Range: bytes 0-99/1234``."""
    number = str(headers.get("Content-Range", "")).rpartition("/")[2]
    return int(number) if number.isdecimal() else None
