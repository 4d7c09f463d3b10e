"""The line of the user's code that is running, below libraries and hooks."""

import os
import sys
import sysconfig
from pathlib import Path
from types import FrameType

_PACKAGE = str(Path(__file__).resolve().parents[2])
_PATHS = sysconfig.get_paths()
_LIBRARIES = tuple(
    f"{os.path.abspath(path)}{os.sep}"
    for path in (_PACKAGE, _PATHS["stdlib"], _PATHS["platstdlib"])
)
"""Folders of normcheck and of Python."""
_INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
"""Within the paths of all that is installed."""
CHECKPOINTING = str(Path("torch", "utils", "checkpoint.py"))


def user_frame() -> FrameType | None:
    """The innermost frame that is nobody's library; None where there is only such code."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  (what inspect uses, without reading files)
    while frame is not None:
        if _is_users(frame.f_code.co_filename):
            return frame
        frame = frame.f_back
    return None


def _is_users(name: str) -> bool:
    if name.startswith("<"):
        # Not "<frozen importlib._bootstrap>", not what a library compiles.
        return name.startswith(("<ipython", "<stdin", "<string"))
    installed = any(folder in name for folder in _INSTALLED)
    return not installed and not name.startswith(_LIBRARIES)


def within(ending: str) -> bool:
    """Whether a file with this ending is among those whose code is running."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  (the same)
    while frame is not None:
        if frame.f_code.co_filename.endswith(ending):
            return True
        frame = frame.f_back
    return False


def named(frame: FrameType | None) -> str:
    """``train.py:42``; empty without a frame."""
    if frame is None:
        return ""
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
