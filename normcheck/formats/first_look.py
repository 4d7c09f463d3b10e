"""What a file of a folder is, where its name does not tell: its first bytes do.

A look costs one open and 512 bytes. Archives in general are only named, since to search all of a
data set's would be another program's business; the few that libraries make for models are known
by their first member.
"""

import os
import re
import stat
from pathlib import Path

from normcheck.formats import foreign_files as foreign
from normcheck.formats.registry import SNIFFED, is_known
from normcheck.formats.safetensors_file import header_length
from normcheck.formats.unrelated_names import is_unrelated
from normcheck.lazy_dataclass import lazy_dataclass

_ZIP = b"PK\x03\x04"
_ZIP_NAME = 30
"""Where the first member's name begins, whose length stands four bytes before."""
_TORCH_MEMBER = re.compile(
    rb"[^/]+/(data\.pkl|version|byteorder|constants\.pkl|archive_(format|version)|"
    rb"\.(format_version|storage_alignment|data/)|(code|data|models|extra)/)"
)
"""First members of what torch saves, scripts, exports and packages."""
_MODEL_MEMBER = re.compile(
    rb"data|model_params\.json|(.*/)?MAR-INF/|.*\.(pt|pth|ckpt|safetensors|zip)", re.DOTALL
)
"""First members of stable-baselines3, pytorch-tabnet and TorchServe, and checkpoints."""
_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
"""The first pickle of torch's legacy format."""
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_TEXT = re.compile(rb"[\t\n\r\f\x20-\x7e\x80-\xff]+")
_LOST_PART = ".distcp"


@lazy_dataclass()
class FirstLook:
    """What the first bytes of a file say."""

    readable: bool
    """Whether a reader takes files that begin so."""
    sure: bool = False
    """Whether nothing but a checkpoint begins so: that it cannot be read is then an error."""
    why: str = ""
    """Why it is passed over, with its name in front."""


def first_look(path: Path) -> FirstLook | None:
    """What a file without the suffix of a checkpoint is; None where no model could be in it.

    Args:
        path: Of this machine. What is no regular file is not opened.
    """
    if is_unrelated(path.name):
        return None
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        with path.open("rb", buffering=0) as file:
            start = file.read(SNIFFED)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        return FirstLook(False, why=f"{path}: cannot be opened ({error.strerror})")
    return look_at(str(path), start, size)


def look_at(name: str, start: bytes, size: int) -> FirstLook | None:
    """The same of the first bytes.

    Args:
        name: How messages call the file.
        start: 512 bytes, or all where there are fewer.
        size: Length of the file in bytes.
    """
    if not start:
        return None
    if name.endswith(_LOST_PART):
        return FirstLook(
            False, why=f"{name}: a part of a torch.distributed checkpoint without its .metadata"
        )
    if start.startswith(_ZIP):
        return _of_zip(name, start)
    if start.startswith(_MAGIC) or header_length(start) is not None:
        return FirstLook(True, sure=True)
    if _TEXT.fullmatch(start):
        # Words may begin like a pickle of protocol 0, so that a text is never read as one here.
        told = foreign.pointer(start)
        return FirstLook(False, why=f"{name}: {told}") if told else None
    if _PICKLE.match(start):
        return FirstLook(True)
    if is_known(start):
        from normcheck.formats.boxes.read_box import is_box

        return _archive(name) if is_box(start) else FirstLook(True)
    return FirstLook(False, why=foreign.explain(name, size, start).message)


def _of_zip(name: str, start: bytes) -> FirstLook:
    length = int.from_bytes(start[_ZIP_NAME - 4 : _ZIP_NAME - 2], "little")
    member = start[_ZIP_NAME : _ZIP_NAME + length]
    if _TORCH_MEMBER.match(member):
        return FirstLook(True, sure=True)
    if _MODEL_MEMBER.fullmatch(member):
        return FirstLook(True)
    if member.endswith(b".npy"):
        return FirstLook(False, why=f"{name}: an archive of numpy arrays (npz)")
    return _archive(name)


def _archive(name: str) -> FirstLook:
    return FirstLook(False, why=f"{name}: an archive; named by itself it is read through")
