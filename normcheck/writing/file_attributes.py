"""What a file keeps that is replaced by another: owner, permissions, lists of who may read it."""

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

from normcheck import platforms

_ACL = "system.posix_acl_access"
_ATTRIBUTES = ("user.", _ACL, "security.selinux")
"""Those that users and their programs set; others speak of the content, or are the system's."""


def as_before(descriptor: int, target: Path, old: os.stat_result) -> None:
    """Owner, permissions and attributes of the file that is replaced."""
    if not platforms.KEEPS_OWNERS:
        return
    bits = stat.S_IMODE(old.st_mode)
    now = os.fstat(descriptor)
    if (now.st_uid, now.st_gid) != (old.st_uid, old.st_gid):
        try:
            platforms.give(descriptor, old.st_uid, old.st_gid)
        except OSError:
            # Only root gives files away. The bits that speak of another owner go.
            bits &= 0o777
            try:
                platforms.give(descriptor, -1, old.st_gid)
            except OSError:
                # This user's group may do no more than everybody.
                bits = bits & 0o707 | (bits & 0o007) << 3
    platforms.permit(descriptor, bits)
    _attributes_as_before(descriptor, target)


def _attributes_as_before(descriptor: int, target: Path) -> None:
    """The access control list and what users and their programs noted on the file.

    Python reads them on Linux only.
    """
    if sys.platform == "linux" and hasattr(os, "listxattr"):
        with suppress(OSError):  # a file system without them
            names = os.listxattr(target)
            if _ACL not in names:
                with suppress(OSError):
                    os.removexattr(descriptor, _ACL)  # the folder's default
            for name in names:
                if name.startswith(_ATTRIBUTES):
                    with suppress(OSError):
                        os.setxattr(descriptor, name, os.getxattr(target, name))
