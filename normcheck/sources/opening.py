"""Opening what a place names, now or when its first byte is wanted, and parts of it."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

from normcheck.errors import NormcheckError
from normcheck.sources.place import Place, RemotePath
from normcheck.sources.source import FileSource, Source, check_range, is_distant

_OPEN = 100
"""Files of one checkpoint that are held open at a time; a training run on a thousand GPUs
writes thousands, and systems allow 1,024."""
_AT_ONCE = 16
"""Remote files that are asked for their size and first bytes side by side."""


def open_source(place: Place) -> Source:
    """The bytes of a file, wherever it lies.

    Raises:
        UnreadableError: It cannot be opened.
    """
    if isinstance(place, RemotePath):
        from normcheck.sources.remote.remote_source import RemoteSource

        return RemoteSource(place)
    return FileSource(place)


def open_sources(places: Sequence[Place]) -> list[Source]:
    """The same for several, remote ones side by side; all or none.

    Raises:
        UnreadableError: One of them cannot be opened; the others are closed again.
    """
    opening: list[Callable[[], Source]] = [partial(open_source, place) for place in places]
    if any(isinstance(place, RemotePath) for place in places[1:]):
        from concurrent.futures import ThreadPoolExecutor  # not for local files

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            opening = [pool.submit(open_one).result for open_one in opening]
    opened: list[Source] = []
    failures: list[NormcheckError] = []
    for open_one in opening:
        try:
            opened.append(open_one())
        except NormcheckError as error:
            failures.append(error)
    if failures:
        for source in opened:
            source.close()
        raise failures[0]
    return opened


class Files:
    """The files of one folder by name, opened when read, the longest unused closed again."""

    def __init__(self, folder: Place) -> None:
        """None is open yet."""
        self._folder = folder
        self._open: OrderedDict[str, Source] = OrderedDict()
        self._closed = False

    @property
    def name(self) -> str:
        """The folder."""
        return str(self._folder)

    @property
    def distant(self) -> bool:
        """Whether the folder is not on this machine."""
        return isinstance(self._folder, RemotePath)

    def open_together(self, names: Sequence[str]) -> None:
        """Open remote files side by side, for those who will read them all.

        Raises:
            UnreadableError: One of them cannot be opened.
        """
        new = [name for name in names if name not in self._open]
        for name, source in zip(new, open_sources([self._folder / n for n in new]), strict=True):
            self._open[name] = source

    def get(self, name: str) -> Source:
        """One file, open.

        Raises:
            UnreadableError: It cannot be opened.
        """
        if self._closed:
            raise RuntimeError("the checkpoint is closed")
        source = self._open.get(name)
        if source is None:
            source = self._open[name] = open_source(self._folder / name)
            if len(self._open) > _OPEN and not self.distant:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(name)
        return source

    def close(self) -> None:
        """Close those that are open; none is opened after it."""
        self._closed = True
        while self._open:
            self._open.popitem()[1].close()


class FilePart:
    """A run of bytes within one of the files, as a source of its own."""

    def __init__(self, files: Files, file: str, offset: int, length: int) -> None:
        """Nothing is opened before something is read."""
        self.files = files
        self.file = file
        self.offset = offset
        self._length = length

    @property
    def distant(self) -> bool:
        """Whether the file is not on this machine."""
        return self.files.distant

    @property
    def name(self) -> str:
        """The file."""
        return f"{self.files.name}/{self.file}"

    @property
    def size(self) -> int:
        """Length in bytes of the part."""
        return self._length

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset`` of the part."""
        check_range(self.name, offset, length, self._length)
        return self.files.get(self.file).read_at(self.offset + offset, length)

    def fetch_ahead(self, spans: Sequence[tuple[int, int]]) -> None:
        """Pass on to the file, where that is far."""
        source = self.files.get(self.file)
        if is_distant(source):
            source.fetch_ahead([(self.offset + start, length) for start, length in spans])

    def close(self) -> None:
        """The file stays open for the other parts."""
