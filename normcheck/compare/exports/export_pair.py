"""A model and its export, read side by side and compared."""

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from normcheck.compare.exports.export_match import ExportMatch, Fate
from normcheck.compare.exports.export_numbers import export_match
from normcheck.compare.model_track import Track
from normcheck.compare.pair_outputs import Ran, model_at, outputs_of
from normcheck.errors import UsageError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.formats.registry import FORMATS
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.run_request import Running
from normcheck.saved.checkpoint import Checkpoint, SavedModel
from normcheck.sources.limits import Limits

_SUFFIXES = tuple(suffix for form in FORMATS if form.export for suffix in form.suffixes)


@lazy_dataclass(eq=False)
class ExportedPair:
    """The comparison of two files of which one is an export."""

    track: Track
    match: ExportMatch
    files: tuple[str, ...]
    """All that they were read from."""
    ran: Ran
    """What the two gave on the same data."""


def may_be_export(path: Path) -> bool:
    """Whether a look into a file is worth it: by its name, or TorchScript's code in a zip."""
    if path.name.endswith(_SUFFIXES):
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name or "models/" in name for name in archive.namelist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False  # what it is instead, its reader says


def exported_pair(
    files: Sequence[Path], limits: Limits, where: Sequence[str], running: Running | None
) -> ExportedPair | None:
    """Compare two files of which one is an export; None where neither is.

    Args:
        files: Two.
        limits: For reading.
        where: Places of the models, where the user named some.
        running: How to run both on data; None to compare numbers only.

    Raises:
        NormcheckError: One of them cannot be read.
    """
    opened: list[Checkpoint] = []
    try:
        opened.extend(read_checkpoint(path, limits) for path in files)
        models = [model_at(c, where, number) for number, c in enumerate(opened)]
        exports = [number for number, model in enumerate(models) if model.form.exported]
        if not exports:
            return None
        # Of two exports the first is taken for the source.
        place = 1 - exports[0] if len(exports) == 1 else 0
        return _compared(opened, models, place, limits, running)
    finally:
        for checkpoint in opened:
            checkpoint.close()


def fused_pair(files: Sequence[Path], limits: Limits, where: Sequence[str]) -> ExportedPair | None:
    """Compare two files of which one may hold the numbers of the other in other tensors.

    Batch norms in the weights before them; queries, keys and values in one; all of them under
    other names. None where nothing shows that it does.

    Args:
        files: Two, neither of them an export.
        limits: For reading.
        where: Places of the models, where the user named some.
    """
    opened: list[Checkpoint] = []
    try:
        opened.extend(read_checkpoint(path, limits) for path in files)
        models = [model_at(c, where, number) for number, c in enumerate(opened)]
        tracked = [sum(name.endswith("running_var") for name in model.tensors) for model in models]
        pair = _compared(opened, models, int(tracked[1] > tracked[0]), limits, None)
    except UsageError:
        return None  # several models in a file
    finally:
        for checkpoint in opened:
            checkpoint.close()
    match = pair.match
    folded = any(norm.fate is Fate.FOLDED or norm.scaled for norm in match.norms)
    return pair if folded or match.joined or match.renamed else None


def _compared(
    opened: list[Checkpoint],
    models: list[SavedModel],
    place: int,
    limits: Limits,
    running: Running | None,
) -> ExportedPair:
    source, export = models[place], models[1 - place]
    files = opened[place], opened[1 - place]
    track = Track.of_two(files, (source, export))
    old, new = track.first, track.last
    match = export_match(source, export, (old, new))
    done = Ran(None)
    if running is not None:
        done = outputs_of(files, (source, export), old.anatomy, running, limits)
        match = replace(match, outputs=done.outputs, not_run=done.not_run)
    return ExportedPair(track, match, (*files[0].files, *files[1].files), done)
