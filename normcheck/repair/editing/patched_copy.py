"""A copy of a file, byte for byte, with the bytes of some tensors replaced. No torch."""

from collections.abc import Iterator, Mapping

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.repair.editing.tensor_edits import Edits, NotInPlaceError, changed_bytes
from normcheck.repair.editing.zip_checksums import checksum_edits, overlaid
from normcheck.saved.checkpoint import MEMBER, Checkpoint
from normcheck.sources.source import FileSource
from normcheck.writing.streams import Out

_PIECE = 1 << 22
"""Bytes that are copied at a time."""


@lazy_dataclass(eq=False)
class Patch:
    """A file and what is to be different in its copy."""

    source: FileSource
    edits: Mapping[int, bytes]
    """Tensors, flags and checksums."""
    changed: int
    """Bytes of the tensors and flags that differ from the input."""

    def write_to(self, out: Out) -> None:
        """Write the copy, a piece at a time."""
        for piece in self._pieces():
            out.write(piece)

    def _pieces(self) -> Iterator[bytes]:
        waiting = sorted(self.edits.items())
        for start in range(0, self.source.size, _PIECE):
            length = min(_PIECE, self.source.size - start)
            piece = self.source.read_at(start, length)
            touching = {o: d for o, d in waiting if o < start + length and o + len(d) > start}
            yield overlaid(piece, start, touching)


def patch_of(checkpoint: Checkpoint, edits: Edits) -> Patch:
    """What changes in the copy of a file, its checksums included.

    Args:
        checkpoint: The file, open.
        edits: New bytes of tensors and flags.

    Raises:
        NotInPlaceError: It is spread over several files.
    """
    source = single_source(checkpoint)
    wanted = dict(edits.runs())
    everything = dict(wanted)
    if checkpoint.format.startswith("torch zip"):
        everything |= checksum_edits(source, wanted)
    return Patch(source, everything, changed_bytes(source, wanted))


def single_source(checkpoint: Checkpoint) -> FileSource:
    """The one file of a checkpoint.

    Raises:
        NotInPlaceError: It is spread over several.
    """
    source = checkpoint.sources[0] if len(checkpoint.sources) == 1 else None
    if any(model.where.startswith(MEMBER) for model in checkpoint.models):
        raise NotInPlaceError(
            f"{checkpoint.name}: a model in an archive is not repaired",
            "take the checkpoint out, repair that, and pack the archive again",
        )
    if not isinstance(source, FileSource):
        raise NotInPlaceError(
            f"{checkpoint.name}: a model spread over {len(checkpoint.sources) - 1} shards is not "
            "repaired",
            "load it, save it as one file, and repair that",
        )
    return source
