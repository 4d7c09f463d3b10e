"""Naming what will be read before it is read, so that remote files are asked once."""

from collections.abc import Iterable

from normcheck.saved.tensors import TensorRef
from normcheck.sources.opening import FilePart, Files
from normcheck.sources.source import DistantSource, FileSource, Source, is_distant

_AT_ONCE = 8
"""Files of one checkpoint that are asked side by side, each with several requests."""


def fetch_ahead(tensors: Iterable[TensorRef | None]) -> None:
    """Fetch the values of tensors of remote files together; nothing to do for local ones.

    Args:
        tensors: That will be read; None, and tensors without values, are passed over.

    Raises:
        UnreadableError: A file cannot be reached.
    """
    wanted: dict[tuple[int, str], tuple[DistantSource, list[tuple[int, int]]]] = {}
    parts: dict[int, tuple[Files, dict[str, None]]] = {}
    for tensor in tensors:
        if tensor is None or not tensor.readable:
            continue
        region: object = tensor.storage.region if tensor.storage is not None else None
        if isinstance(getattr(region, "source", None), FileSource):
            return  # as below, told without working out what would be read
        for source, offset, length in tensor.spans():
            if isinstance(source, FileSource):
                return  # a checkpoint lies in one place: here
            if not is_distant(source):
                break  # a tensor's pieces are all far or all near
            key = (id(source), "")
            if isinstance(source, FilePart):
                # Many parts of one file are one question to that file.
                key = (id(source.files), source.file)
                parts.setdefault(id(source.files), (source.files, {}))[1][source.file] = None
                offset += source.offset  # noqa: PLW2901
            wanted.setdefault(key, (source, []))[1].append((offset, length))
    for files, names in parts.values():
        files.open_together(list(names))
    asked = [
        (source.files.get(source.file) if isinstance(source, FilePart) else source, spans)
        for source, spans in wanted.values()
    ]
    if len(asked) == 1:
        _fetch(asked[0])
    elif asked:
        from concurrent.futures import ThreadPoolExecutor  # not for local files

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(_fetch, asked))


def _fetch(asked: tuple[Source, list[tuple[int, int]]]) -> None:
    source, spans = asked
    if is_distant(source):
        source.fetch_ahead(spans)
