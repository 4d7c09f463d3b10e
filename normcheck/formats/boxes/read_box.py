"""Archives around checkpoints: every model in them, each under ``box!member``.

A model archive of TorchServe, SageMaker or NeMo, a policy of stable-baselines3, any zip or tar of
checkpoints: its members are looked at by their first bytes, and those that are a format of ours are
read where they lie, through as many layers as there are, up to a few. Nothing is written to disk,
and what all layers cost together counts against one file's limits.
"""

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import field, replace

from normcheck.errors import (
    NoModelError,
    NormcheckError,
    RefusedError,
    UnknownFormatError,
    UnreadableError,
)
from normcheck.formats.boxes.inflated import RAW, Inflated, framing_of
from normcheck.formats.boxes.packed_whole import HEAD, packing_of, unpacked
from normcheck.formats.boxes.tar_members import is_tar, tar_members
from normcheck.formats.nested_archives import RegionSource
from normcheck.formats.unrelated_names import is_unrelated
from normcheck.formats.zip_members import find, open_archive, packed_part
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.pickles.locate_models import Found
from normcheck.saved.checkpoint import MEMBER, Checkpoint, SavedModel
from normcheck.saved.clocks import merged
from normcheck.saved.tensors import PlainRegion
from normcheck.sources.limits import Budget, Limits, LimitsWithin, within
from normcheck.sources.source import Source
from normcheck.wording import plural

DEEPEST = 4
"""Boxes within each other that are opened: an archive of archives of checkpoints is real."""
MOST_MEMBERS = 100_000
_SNIFFED = 512
_UNPACK = {
    "gzip": "gunzip", "zlib": "zlib-flate -uncompress", "zstd": "zstd -d", "xz": "unxz",
    "LZMA": "unlzma", "bzip2": "bunzip2",
}  # fmt: skip
_TORCH_0_1 = {"sys_info", "pickle", "storages", "tensors"}
"""Members of what torch saved before 0.1.10."""
_KINDS = (
    ("MAR-INF/MANIFEST.json", "TorchServe archive"),
    ("_stable_baselines3_version", "stable-baselines3 archive"),
    ("model_config.yaml", "NeMo archive"),
    ("model.weights.h5", "Keras archive"),
)
"""A member that tells what the box is."""

_UNPACK_FIRST = "unpack it and look at what is inside"
_UNPACK_RANKS = "it holds a folder of torch.distributed.checkpoint: unpack it, and scan that folder"

Read = Callable[[Source, Limits], Checkpoint]
Known = Callable[[bytes], bool]
Inside = Source | Inflated


@lazy_dataclass()
class Member:
    """A file in a box, not opened yet."""

    name: str
    length: int
    opened: Callable[[], Inside]


@lazy_dataclass(frozen=False)
class _Contents:
    """What was found in a box."""

    read: list[tuple[str, Checkpoint]] = field(default_factory=list)
    beside: list[Found] = field(default_factory=list)
    """What members without a model hold that bears on those with one: optimizers' states."""
    passed_over: int = 0


def is_box(start: bytes) -> bool:
    """Whether a file begins like a tar or a packed file; a zip is torch's own format first."""
    return framing_of(start) is not None or bool(packing_of(start)) or is_tar(start)


def read_box(source: Source, limits: Limits, read: Read, known: Known) -> Checkpoint:
    """Every model in the members of an archive.

    Args:
        source: The archive: a zip, a tar, or a packed file.
        limits: For all of it together.
        read: Reads a member.
        known: Whether a file that begins so is of a format that ``read`` takes.

    Raises:
        NoModelError: No member holds a model.
        UnreadableError: The archive is damaged, or a checkpoint in it is; a name leads out of it.
        RefusedError: Past the limits, or nested too deep.
    """
    if _depth(limits) >= DEEPEST:
        raise RefusedError(
            f"{source.name}: archives nested more than {DEEPEST} deep",
            "unpack the outer ones, and scan what is inside",
        )
    budget = Budget(limits)
    start = source.read_at(0, min(_SNIFFED, source.size))
    framing = framing_of(start)
    if framing is not None:
        return _read_packed(
            source, Inflated(source, source.name, budget, framing), budget, read, known
        )
    if packing_of(start):
        return _read_packed(source, unpacked(source, budget), budget, read, known)
    form = "tar archive" if is_tar(start) else "zip archive"
    members = _in_tar(source, budget) if is_tar(start) else _in_zip(source, budget)
    names: list[str] = []
    found = _Contents()
    try:
        for member in members:
            if len(names) >= MOST_MEMBERS:
                raise RefusedError(f"{source.name}: more than {MOST_MEMBERS:,} files in it")
            _check_name(source, member.name)
            names.append(member.name)
            _look_into(member, found, budget, read, known)
        _check_twice(source, names)
    except BaseException:
        for _, checkpoint in found.read:
            checkpoint.close()
        raise
    if set(names) >= _TORCH_0_1:
        raise UnreadableError(
            f"{source.name}: a tar of torch 0.1", "load it with torch before 2.9, and save it again"
        )
    kind = next((kind for sign, kind in _KINDS if any(_ends(n, sign) for n in names)), "")
    if not found.read:
        raise NoModelError(
            f"{source.name}: a {kind or form} of {plural(len(names), 'file')}, none of which holds "
            "a model that is read here",
            _UNPACK_RANKS if any(n.endswith(".distcp") for n in names) else _UNPACK_FIRST,
        )
    return _one_checkpoint(source, kind or "archive", found)


def _read_packed(
    source: Source, inner: Inside, budget: Budget, read: Read, known: Known
) -> Checkpoint:
    """What is packed as a whole: a tar, whose members are then the box's, or one checkpoint."""
    packing = (
        inner.packing
        if isinstance(inner, Inflated)
        else packing_of(source.read_at(0, min(HEAD, source.size)))
    )
    start = _head(inner)
    if not known(start):
        raise UnknownFormatError(  # what a folder holds such of is no damaged checkpoint
            f"{source.name}: compressed with {packing}, and no checkpoint inside",
            f"unpack it ({_UNPACK[packing]}) and look at what it is",
        )
    checkpoint = read(inner, _deeper(budget, 1 if is_box(start) else 0))
    return replace(
        checkpoint,
        format=f"{checkpoint.format}, packed by {packing}",
        size=source.size,
        sources=(source, *checkpoint.sources),
    )


def _head(inside: Inside) -> bytes:
    if isinstance(inside, Inflated):
        return inside.head(_SNIFFED)
    return inside.read_at(0, min(_SNIFFED, inside.size))


def _in_zip(source: Source, budget: Budget) -> Iterator[Member]:
    archive = open_archive(source, budget)
    for info in archive.infolist():
        if not info.filename.endswith("/"):
            yield Member(info.filename, info.file_size, _zip_opener(source, info, budget))


def _zip_opener(source: Source, info: zipfile.ZipInfo, budget: Budget) -> Callable[[], Inside]:
    def opened() -> Inside:
        name = f"{source.name}!{info.filename}"
        if info.compress_type != zipfile.ZIP_DEFLATED:
            return RegionSource(find(source, info, budget), name)
        packed = RegionSource(packed_part(source, info, budget), name)
        return Inflated(packed, name, budget, RAW, length=info.file_size, checksum=info.CRC)

    return opened


def _in_tar(source: Source, budget: Budget) -> Iterator[Member]:
    for found in tar_members(source, budget):
        yield Member(
            found.name, found.length, _tar_opener(source, found.name, found.offset, found.length)
        )


def _tar_opener(source: Source, name: str, offset: int, length: int) -> Callable[[], Inside]:
    return lambda: RegionSource(PlainRegion(source, offset, length), f"{source.name}!{name}")


def _look_into(member: Member, found: _Contents, budget: Budget, read: Read, known: Known) -> None:
    """Add what a member holds, or count it as passed over."""
    found.passed_over += 1
    if not member.length or is_unrelated(member.name):
        return
    inside = member.opened()
    if not known(_head(inside)):
        return
    try:
        found.read.append((member.name, read(inside, _deeper(budget, 1))))
        found.passed_over -= 1
    except NoModelError as error:
        if isinstance(error.found, Found):
            found.beside.append(error.found)
    except RefusedError:
        raise
    except NormcheckError:
        # A text may begin like a pickle; what is called a checkpoint has to be one.
        if member.name.lower().endswith(_CHECKPOINTS):
            raise


_CHECKPOINTS = (
    ".pt", ".pth", ".ckpt", ".bin", ".pt2", ".ptl", ".jit", ".safetensors", ".onnx", ".th",
)  # fmt: skip


def _one_checkpoint(source: Source, kind: str, found: _Contents) -> Checkpoint:
    models: list[SavedModel] = []
    for name, checkpoint in found.read:
        models.extend(
            replace(model, where=_inside(name, model.where)) for model in checkpoint.models
        )
    files = [checkpoint for _, checkpoint in found.read]
    holding: list[Checkpoint | Found] = [*files, *found.beside]
    several = len(files) > 1
    notes = [
        f"{name}: {note}" if several else note for name, file in found.read for note in file.notes
    ]
    refused = next((f"{n}: {f.refused_by_torch}" for n, f in found.read if f.refused_by_torch), "")
    return Checkpoint(
        name=source.name,
        format=f"{kind}, {plural(len(files), 'checkpoint')} in it",
        size=source.size,
        models=tuple(models),
        optimizer_steps=max((f.optimizer_steps or 0 for f in holding), default=0) or None,
        clocks=merged(clock for file in files for clock in file.clocks),
        optimizers=sum(held.optimizers for held in holding),
        optimizer_states=tuple(state for held in holding for state in held.optimizer_states),
        notes=(*dict.fromkeys(notes), *_passed_over(found)),
        sources=(source, *(s for file in files for s in file.sources)),
        names=tuple(dict.fromkeys(name for file in files for name in file.names)),
        refused_by_torch=refused,
    )


def _passed_over(found: _Contents) -> tuple[str, ...]:
    files = found.passed_over - len(found.beside)
    return (f"{plural(files, 'other file')} in it passed over",) if files > 0 else ()


def _inside(member: str, where: str) -> str:
    """``!policy.pth``, and behind it where the model sits in that member."""
    if where.startswith(MEMBER):
        return f"{MEMBER}{member}{where}"
    return f"{MEMBER}{member}" + (f"#{where}" if where else "")


def _deeper(budget: Budget, levels: int) -> LimitsWithin:
    limits = within(budget)
    return replace(limits, depth=_depth(budget.limits) + levels)


def _depth(limits: Limits) -> int:
    return limits.depth if isinstance(limits, LimitsWithin) else 0


def _ends(name: str, sign: str) -> bool:
    return name == sign or name.endswith(f"/{sign}")


def _check_name(source: Source, name: str) -> None:
    if not name:
        raise UnreadableError(f"{source.name}: a member without a name", "pack the archive again")
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or parts[0].endswith(":"):
        raise UnreadableError(
            f"{source.name}: the member {name[:80]!r} leads out of the archive",
            "the archive was made to harm whoever unpacks it, or by mistake; pack it again",
        )


def _check_twice(source: Source, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UnreadableError(
                f"{source.name}: the archive holds {name[:80]} more than once",
                "whichever is unpacked last wins; pack it again",
            )
        seen.add(name)
