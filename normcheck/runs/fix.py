"""One repair: read, estimate, prove, write. The whole flow on one page."""

import os
from dataclasses import replace
from pathlib import Path

from normcheck.errors import NormcheckError, UsageError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.live.run_request import ALL, at_places, named
from normcheck.pipeline.given import paths_in
from normcheck.repair.editing.patched_copy import single_source
from normcheck.repair.repair_model import repair_model
from normcheck.repair.repair_request import Fixing
from normcheck.repair.repair_result import Repair
from normcheck.repair.repaired_place import place_of_copy
from normcheck.repair.write_repaired import write_repaired
from normcheck.saved.checkpoint import Checkpoint, SavedModel
from normcheck.sources.place import is_remote, shown


def fix(target: str | Path, how: Fixing) -> Repair:
    """Write a repaired copy of a file, or say why not.

    The input is changed only with ``how.in_place``. The output is there whole or not at all, and
    never in place of another file; a device, a FIFO or a socket is written into as it stands.

    Args:
        target: A checkpoint file.
        how: Which repairs, and where the result goes.

    Returns:
        What was done; ``refused`` where something spoke against it, and nothing was written.

    Raises:
        NormcheckError: It cannot be done. Nothing was written.
    """
    (word,) = paths_in([target], "fix repairs")
    if not isinstance(how, Fixing):
        raise UsageError(
            f"fix takes a Fixing, not a {type(how).__name__}",
            "it says which repairs, and where the result goes",
        )
    if is_remote(word):
        raise UsageError(
            f"{shown(word)}: a file at an address is not repaired",
            "download it, repair the copy, and upload that",
        )
    # A link stays a link: what it points to is repaired.
    path = Path(os.path.realpath(word))
    output = place_of_copy(word, path, how)
    checkpoint = read_checkpoint(Path(word), how.limits)
    try:
        single_source(checkpoint)
        before = _stamp(path)
        models = tuple(repair_model(checkpoint, saved, how) for saved in _chosen(checkpoint, how))
        if not any(model.changes or model.flags for model in models):
            raise NormcheckError(
                f"{target}: nothing to repair: {', '.join(how.asks_for)} found all as it should be"
            )
        result = Repair(str(target), checkpoint.format, models, None, how.force, asked=how.words)
        if any(model.objections for model in models) and not how.force:
            return result
        if _stamp(path) != before:
            raise NormcheckError(
                f"{target} changed while it was being repaired; nothing was written",
                "run it again when nothing writes to the file",
            )
        return replace(result, written=write_repaired(checkpoint, path, output, models, how))
    finally:
        checkpoint.close()


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _chosen(checkpoint: Checkpoint, how: Fixing) -> tuple[SavedModel, ...]:
    """The models of the file that are meant."""
    places = [saved.where for saved in checkpoint.models]
    listed = named(places)
    if not how.places:
        if len(places) > 1:
            raise UsageError(
                f"{checkpoint.name} holds {len(places)} models: {listed}",
                "say which: --where PLACE, several times, or --where all",
            )
        return checkpoint.models
    if ALL in how.places and ALL not in places:
        return checkpoint.models
    wanted = at_places(how.places)
    for place in wanted:
        if place not in places:
            raise UsageError(f"no model at {named([place])}", f"the file has models at {listed}")
    return tuple(saved for saved in checkpoint.models if saved.where in wanted)
