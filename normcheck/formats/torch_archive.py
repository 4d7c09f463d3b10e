"""What torch wants of an archive before it loads it: such archives can be read here all the same.

As ``caffe2/serialize/inline_container.cc`` of torch 2.13 has it, and ``torch/serialization.py``:
one folder that everything lies in, a version between two bounds, a byte order of two words.
Whoever reads an archive that torch refuses should hear of it: what is judged here is then not
what anybody loads.
"""

from normcheck.formats.zip_directory import Archive, Directory
from normcheck.formats.zip_members import find_named
from normcheck.lazy_pattern import lazy_pattern
from normcheck.sources.limits import Budget
from normcheck.sources.source import Source, is_distant

TORCH = "2.13"
"""The version whose rules these are."""
_OLDEST, _NEWEST = 1, 10
"""``kMinSupportedFileFormatVersion`` and ``kMaxSupportedFileFormatVersion``."""
_LONGEST_FOLDER = 510
"""Names are compared within a buffer of 512 bytes, the slash and the end included."""
_NUMBER = lazy_pattern(rb"\s*\+?(\d+)")
"""What ``std::stoull`` reads; whatever follows is passed over."""
_SHORT = 64


def why_torch_load_refuses(source: Source, archive: Archive, budget: Budget) -> str:
    """Why ``torch.load`` fails on an archive with a pickle; ``""`` where it has no reason.

    Args:
        source: The file.
        archive: Its directory.
        budget: Of the file.
    """
    names = archive.namelist()
    first = names[0]
    root, slash, _ = first.partition("/")
    if not slash:
        return f"{first[:80]!r} lies in no folder"
    within = f"{root}/"
    outside = next((name for name in names if not name.startswith(within)), "")
    if outside:
        return f"{outside[:80]!r} lies outside of its folder {root[:80]!r}"
    if len(root.encode()) > _LONGEST_FOLDER:
        return "the name of its folder is too long"
    return why_reader_refuses(source, archive, budget) or _odd_records(
        source, archive, root, budget
    )


def why_reader_refuses(source: Source, archive: Archive, budget: Budget) -> str:
    """Why no loader of torch opens an archive, that of TorchScript included; ``""`` if one does."""
    first = archive.namelist()[0]
    root, slash, _ = first.partition("/")
    if not slash:
        return f"{first[:80]!r} lies in no folder"
    for name in (".data/version", "version"):
        member = _member(archive, f"{root}/{name}")
        if member:
            break
    else:
        return f"its folder {root[:80]!r} holds no version of the format"
    text = _read(source, archive, member, budget)
    if text is None:
        return ""
    number = _NUMBER.match(text)
    if number is None:
        return f"its version {text[:20]!r} is no number"
    version = int(number[1])
    if not _OLDEST <= version <= _NEWEST:
        return f"its version is {version}, and {_OLDEST} to {_NEWEST} are known"
    return ""


def _odd_records(source: Source, archive: Archive, root: str, budget: Budget) -> str:
    if not _member(archive, f"{root}/data.pkl"):
        return f"its folder {root[:80]!r} holds no data.pkl"
    text = _read(source, archive, _member(archive, f"{root}/byteorder"), budget)
    if text is not None and text not in (b"little", b"big"):
        return f"its byte order is {text[:20]!r}"
    text = _read(source, archive, _member(archive, f"{root}/.storage_alignment"), budget)
    if text is not None:
        try:
            int(text)
        except ValueError:
            return f"its storage alignment {text[:20]!r} is no number"
    return ""


def _member(archive: Archive, name: str) -> str:
    """The name of a member, as torch looks for it: without regard to case; "" if there is none."""
    names = archive.namelist()
    if name in (archive.places if isinstance(archive, Directory) else names):
        return name
    folded = name.lower()
    if folded not in "\n".join(names).lower():
        return ""
    return next((n for n in names if n.lower() == folded), "")


def _read(source: Source, archive: Archive, name: str, budget: Budget) -> bytes | None:
    """The first bytes of a short member; None where there is none, or the look were a journey."""
    if not name or is_distant(source):
        return None
    region = find_named(source, archive, name, budget)
    return region.read(0, min(region.nbytes, _SHORT))
