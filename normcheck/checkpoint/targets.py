"""From the words on the command line to files: patterns, folders, sharded models."""

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from normcheck.errors import UnreadableError

CHECKPOINT_SUFFIXES = (
    ".pt", ".pth", ".th", ".ckpt", ".safetensors", ".bin", ".pkl", ".pickle", ".pth.tar", ".model",
    ".pt2", ".ptl", ".jit", ".onnx",
)  # fmt: skip
"""Files that a folder is searched for; a file named outright is read whatever it is called."""
_INDEX_SUFFIX = ".index.json"
_SKIPPED_FOLDERS = frozenset({".git", "__pycache__", "node_modules", ".venv", ".cache"})


@dataclass(frozen=True, slots=True)
class Target:
    """One file to read."""

    path: Path
    explicit: bool
    """Named by the user, not found in a folder: what cannot be read is then an error,
    where an unrelated ``.bin`` in a folder is only passed over."""


def expand(words: list[str]) -> Iterator[Target]:
    """The files that the words mean, each once, in the order of the words.

    Raises:
        UnreadableError: A word that names nothing at all.
    """
    if len(words) == 1:
        # Nothing comes twice, and memory does not grow with the number of files.
        yield from _expand_one(words[0])
        return
    seen: set[Path] = set()
    for word in words:
        for target in _expand_one(word):
            if target.path not in seen:
                seen.add(target.path)
                yield target


def _expand_one(word: str) -> Iterator[Target]:
    path = Path(word)
    if path.is_dir():
        yield from _folder(path)
    elif path.exists() or not glob.has_magic(word):
        # A missing file is the reader's to report, with the others going on.
        yield Target(path, explicit=True)
    else:
        matches = sorted(glob.glob(word, recursive=True))
        if not matches:
            raise UnreadableError(
                f"{word}: the pattern matches nothing", "check it from this folder with ls"
            )
        for match in matches:
            if Path(match).is_dir():
                yield from _folder(Path(match))
            else:
                yield Target(Path(match), explicit=True)


def _folder(folder: Path) -> Iterator[Target]:
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS)
        # Indexes of other formats (TensorFlow's, Flax's) lie beside those of torch's.
        indexes = sorted(
            name
            for name in files
            if name.endswith(tuple(suffix + _INDEX_SUFFIX for suffix in CHECKPOINT_SUFFIXES))
        )
        # The shards of an index are one model and are read through it.
        sharded = tuple(index.removesuffix(_INDEX_SUFFIX) for index in indexes)
        for index in indexes:
            yield Target(Path(here, index), explicit=False)
        for name in sorted(files):
            if name.endswith(CHECKPOINT_SUFFIXES) and not _is_shard(name, sharded):
                yield Target(Path(here, name), explicit=False)


def _is_shard(name: str, indexes: tuple[str, ...]) -> bool:
    """Whether ``model-00001-of-00002.safetensors`` belongs to ``model.safetensors``."""
    for index in indexes:
        stem, suffix = os.path.splitext(index)
        if name.startswith(f"{stem}-") and name.endswith(suffix) and "-of-" in name:
            return True
    return False
