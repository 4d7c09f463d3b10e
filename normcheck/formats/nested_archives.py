"""Files inside an archive: as sources, and what torch saved into them."""

from normcheck.formats.torch_zip import read_torch_zip
from normcheck.formats.zip_directory import Archive
from normcheck.formats.zip_members import find, open_archive
from normcheck.pickles.inert import entries_of
from normcheck.pickles.torch_objects import as_tensor
from normcheck.saved.tensors import Region, TensorRef
from normcheck.sources.limits import Budget
from normcheck.sources.source import Source, check_range


class RegionSource:
    """A member of an archive as a file of its own; closing it is the archive's business."""

    def __init__(self, region: Region, name: str) -> None:
        """Wrap a region; ``name`` is what messages call it."""
        self.region = region
        self._name = name

    @property
    def name(self) -> str:
        """What messages call it."""
        return self._name

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.region.nbytes

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``."""
        check_range(self._name, offset, length, self.size)
        return self.region.read(offset, length)

    def close(self) -> None:
        """Nothing is held open by itself."""


def member_source(
    source: Source, archive: Archive, member: str, budget: Budget
) -> RegionSource | None:
    """A member as a source; None where there is none of that name."""
    try:
        info = archive.getinfo(member)
    except KeyError:
        return None
    return RegionSource(find(source, info, budget), f"{source.name}: {member[:80]}")


def saved_object(inner: Source, budget: Budget) -> object:
    """What ``torch.save`` wrote into a file within the archive, inert."""
    return read_torch_zip(inner, open_archive(inner, budget), budget)


def saved_tensors(inner: Source, budget: Budget) -> dict[str, TensorRef]:
    """A dictionary of tensors that ``torch.save`` wrote into a file within the archive."""
    entries = entries_of(saved_object(inner, budget))
    budget.copy(len(entries))
    return {
        name: tensor
        for name, value in entries.items()
        if isinstance(name, str) and (tensor := as_tensor(value)) is not None
    }
