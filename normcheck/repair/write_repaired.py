"""Writing a repaired copy, and reading it again before it gets its name."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from normcheck.errors import NormcheckError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.repair.editing.named_tensors import all_tensors
from normcheck.repair.editing.patched_copy import Patch, patch_of
from normcheck.repair.editing.rewritten_file import needs_new_file, rewritten
from normcheck.repair.editing.tensor_edits import Edits, encoded
from normcheck.repair.editing.tied_tensors import check_ties
from normcheck.repair.editing.training_flags import EVAL
from normcheck.repair.repair_request import Fixing
from normcheck.repair.repair_result import ModelRepair, Written
from normcheck.repair.repaired_place import backup_of
from normcheck.saved.averages_apart import in_file
from normcheck.saved.checkpoint import Checkpoint
from normcheck.saved.dtypes import decode
from normcheck.sources.limits import Limits
from normcheck.writing.destination import Destination, Kind
from normcheck.writing.writer import written


def write_repaired(
    checkpoint: Checkpoint,
    path: Path,
    output: Destination,
    models: tuple[ModelRepair, ...],
    how: Fixing,
) -> Written:
    """Write the repaired file: a copy with other values in it, or one that is made anew.

    Args:
        checkpoint: The file as it is, open.
        path: Where it lies, links followed.
        output: Where the result goes.
        models: With their repairs.
        how: What was asked for.

    Raises:
        NormcheckError: It cannot be written, or does not hold what was to be written.
    """
    anew = needs_new_file(models)
    patch = None
    if anew:
        if any(model.flags for model in models):
            raise NormcheckError("--modes cannot go with repairs that need a new file")
        write_to = rewritten(checkpoint, models)
    else:
        patch = _patch(checkpoint, models)
        write_to = patch.write_to
    with written(
        output,
        new=not how.in_place,
        like=path.stat(),
        check=lambda part: _verify(part, models, how.limits),
        backup=backup_of(path) if how.in_place else None,
        announce=how.announce,
    ) as out:
        write_to(out)
    return Written(
        path="stdout" if output.kind is Kind.STDOUT else how.output or str(output.path),
        size=out.size,
        changed=patch.changed if patch else 0,
        anew=anew,
        backup=str(backup_of(path)) if how.in_place else "",
    )


def _patch(checkpoint: Checkpoint, models: tuple[ModelRepair, ...]) -> Patch:
    check_ties(checkpoint, models)
    edits = Edits()
    for model in models:
        for change in model.changes:
            if change.ref is not None:
                edits.tensor(change.name, change.ref, change.values)
        for place in model.flags:
            edits.put(place, EVAL)
    return patch_of(checkpoint, edits)


def _verify(part: Path, models: tuple[ModelRepair, ...], limits: Limits) -> None:
    """Read the new file before it gets its name, and compare what was to be written.

    Raises:
        NormcheckError: It does not hold that.
    """
    written = read_checkpoint(part, limits)
    try:
        wrong = list(_wrong(written, models))
    finally:
        written.close()
    if wrong:
        raise NormcheckError(
            f"the new file does not hold what was to be written ({', '.join(wrong[:3])}); "
            "it was removed",
            "this is a bug in normcheck; please report it",
        )


def _wrong(written: Checkpoint, models: tuple[ModelRepair, ...]) -> Iterator[str]:
    by_place = {saved.where: saved for saved in written.models}
    # An average that has got statistics which the model lacks is no copy of it any more, and
    # read as a part: its tensors are where they were.
    known = {
        in_file(saved.where, name): ref
        for saved in written.models
        for name, ref in all_tensors(saved).items()
    }
    for model in models:
        saved = by_place.get(model.where)
        for change in model.changes:
            ref = known.get(in_file(model.where, change.name))
            if ref is None:
                yield change.name
                continue
            raw = encoded(change.name, change.values, ref.dtype)
            wanted = decode(raw, ref.dtype, big_endian=False)
            if not np.array_equal(wanted, np.asarray(ref.values()).reshape(-1)):
                yield change.name
        if model.flags and (saved is None or any(r.training for r in saved.modules or ())):
            yield "training flags"
