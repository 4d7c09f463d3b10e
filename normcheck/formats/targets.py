"""From the words on the command line to files: patterns, folders, sharded models, addresses."""

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from normcheck.errors import UnreadableError
from normcheck.formats.folders.folder_kinds import kind_of_folder
from normcheck.formats.registry import FORMATS
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.sources.patterns import matching
from normcheck.sources.place import Place, RemotePath, place_of, shown

CHECKPOINT_SUFFIXES = tuple(suffix for form in FORMATS for suffix in form.suffixes)
"""Files that a folder is searched for; a file named outright is read whatever it is called."""
_INDEX_SUFFIX = ".index.json"
_SKIPPED_FOLDERS = frozenset({".git", "__pycache__", "node_modules", ".venv", ".cache"})
_REMOTE_SIGNS = "*["
"""Signs of a pattern in an address: a question mark begins the query there."""


@lazy_dataclass()
class Target:
    """One file to read, or a folder that is one checkpoint."""

    path: Place
    explicit: bool
    """Named by the user, not found in a folder: what cannot be read is then an error,
    where an unrelated ``.bin`` in a folder is only passed over."""


def expand(words: list[str], redirects: tuple[str, ...] = ()) -> Iterator[Target]:
    """The files that the words mean, each once, in the order of the words.

    Args:
        words: Paths, patterns and addresses.
        redirects: Hosts that the server of an address may redirect to.

    Raises:
        UnreadableError: A word that names nothing at all.
    """
    if len(words) == 1:
        # Nothing comes twice, and memory does not grow with the number of files.
        yield from _expand_one(words[0], redirects)
        return
    seen: set[Place] = set()
    for word in words:
        for target in _expand_one(word, redirects):
            if target.path not in seen:
                seen.add(target.path)
                yield target


def _expand_one(word: str, redirects: tuple[str, ...]) -> Iterator[Target]:
    path = place_of(word, redirects)
    if isinstance(path, RemotePath):
        yield from _expand_remote(path)
    elif path.is_dir():
        yield from _folder(path, explicit=True)
    elif path.exists() or not glob.has_magic(word):
        # A missing file is the reader's to report, with the others going on.
        yield Target(path, explicit=True)
    else:
        yield from _expand_pattern(word)


def _expand_pattern(word: str) -> Iterator[Target]:
    # A folder and what lies in it may both match: only there memory grows with the files.
    seen: set[Place] | None = set() if "**" in word else None
    empty = True
    for match in matching(word):
        empty = False
        found = _folder(match, explicit=True) if match.is_dir() else [Target(match, explicit=True)]
        for target in found:
            if seen is None:
                yield target
            elif target.path not in seen:
                seen.add(target.path)
                yield target
    if empty:
        raise UnreadableError(
            f"{word}: the pattern matches nothing", "check it from this folder with ls"
        )


def _expand_remote(path: RemotePath) -> Iterator[Target]:
    # fsspec comes with this import, which no local scan needs.
    from normcheck.sources.remote import file_systems as remote

    remote.forget_listings(path)
    if any(sign in path.uri for sign in _REMOTE_SIGNS):
        matches = remote.matching(path)
        if not matches:
            raise UnreadableError(
                f"{shown(path.uri)}: the pattern matches nothing", "list the folder it lies in"
            )
    else:
        matches = [path]
    for match in matches:
        # The name of a checkpoint is a file's: no question whether it is, which costs a journey.
        plain = match.name.endswith((*CHECKPOINT_SUFFIXES, _INDEX_SUFFIX))
        if not plain and remote.is_folder(match):
            yield from _folder(match, explicit=True)
        else:
            yield Target(match, explicit=True)


def _folder(folder: Place, *, explicit: bool) -> Iterator[Target]:
    for here, folders, files in _walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS)
        kind = kind_of_folder(folders, files)
        if kind is not None:
            # The slash says that it is a folder, which no question needs to find out again.
            whole = here.at(f"{here.uri.rstrip('/')}/") if isinstance(here, RemotePath) else here
            yield Target(whole, explicit=explicit and here == folder)
            folders[:] = [name for name in folders if not kind.owns_folder(name)]
            files = [name for name in files if not kind.owns_file(name)]  # noqa: PLW2901
        # Indexes of other formats (TensorFlow's, Flax's) lie beside those of torch's.
        indexes = sorted(
            name
            for name in files
            if name.endswith(tuple(suffix + _INDEX_SUFFIX for suffix in CHECKPOINT_SUFFIXES))
        )
        # The shards of an index are one model and are read through it.
        sharded = tuple(index.removesuffix(_INDEX_SUFFIX) for index in indexes)
        for index in indexes:
            yield Target(here / index, explicit=False)
        for name in sorted(files):
            if name.endswith(CHECKPOINT_SUFFIXES) and not _is_shard(name, sharded):
                yield Target(here / name, explicit=False)


def _walk(folder: Place) -> Iterator[tuple[Place, list[str], list[str]]]:
    if isinstance(folder, RemotePath):
        from normcheck.sources.remote import file_systems as remote

        yield from remote.walk(folder)
    else:
        yield from ((Path(here), folders, files) for here, folders, files in os.walk(folder))


def _is_shard(name: str, indexes: tuple[str, ...]) -> bool:
    """Whether ``model-00001-of-00002.safetensors`` belongs to ``model.safetensors``."""
    for index in indexes:
        stem, suffix = os.path.splitext(index)
        if name.startswith(f"{stem}-") and name.endswith(suffix) and "-of-" in name:
            return True
    return False
