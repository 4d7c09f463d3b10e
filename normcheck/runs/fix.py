"""One repair: read, estimate, prove, write. The whole flow on one page."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from normcheck.errors import NormcheckError, UsageError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.live.run_request import ALL
from normcheck.live.torch_there import require_torch
from normcheck.pipeline.given import paths_in
from normcheck.repair.batch_counts import whole_counts
from normcheck.repair.editing.named_tensors import all_tensors
from normcheck.repair.editing.patched_copy import Patch, patch_of, single_source
from normcheck.repair.editing.rewritten_file import needs_new_file, rewritten
from normcheck.repair.editing.tensor_edits import Edits, encoded
from normcheck.repair.editing.tied_tensors import check_ties
from normcheck.repair.editing.training_flags import EVAL, training_flags
from normcheck.repair.repair_request import Fixing
from normcheck.repair.repair_result import Change, ModelRepair, Repair, Written
from normcheck.repair.time_limit import stopped_after
from normcheck.repair.unwarm import unwarmed
from normcheck.saved.checkpoint import Checkpoint, Form, SavedModel
from normcheck.saved.dtypes import decode
from normcheck.sources.limits import Limits
from normcheck.sources.place import is_remote, local, shown
from normcheck.wording import plural
from normcheck.writing.atomic_file import try_out
from normcheck.writing.destination import Destination, Kind, destination_of
from normcheck.writing.writer import written


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
    output = _output(word, path, how)
    checkpoint = read_checkpoint(Path(word), how.limits)
    try:
        single_source(checkpoint)
        before = _stamp(path)
        models = tuple(_repaired(checkpoint, saved, how) for saved in _chosen(checkpoint, how))
        if not any(model.changes or model.flags for model in models):
            raise NormcheckError(
                f"{target}: nothing to repair: {', '.join(how.asks_for)} found all as it should be"
            )
        result = Repair(str(target), checkpoint.format, models, None, forced=how.force)
        if any(model.objections for model in models) and not how.force:
            return result
        if _stamp(path) != before:
            raise NormcheckError(
                f"{target} changed while it was being repaired; nothing was written",
                "run it again when nothing writes to the file",
            )
        return replace(result, written=_write(checkpoint, path, output, models, how))
    finally:
        checkpoint.close()


def _output(target: str | Path, path: Path, how: Fixing) -> Destination:
    """Where the result goes; names that are taken are refused before any work is done."""
    if how.in_place and how.output:
        raise UsageError("--in-place and -o are two places", "give one of them")
    if not how.in_place and not how.output:
        raise UsageError("no place for the repaired copy", "name it: -o fixed.pt, or --in-place")
    if how.output:
        local(how.output, "-o")
    if how.in_place:
        if not path.is_file():
            return Destination(str(path), Kind.NEW, path)  # the reader says what is wrong with it
        backup = backup_of(path)
        if os.path.lexists(backup) and not (backup.exists() and backup.samefile(path)):
            raise UsageError(
                f"{backup} exists already, and would have to hold the backup",
                "move it, or use -o to write the copy elsewhere",
            )
    output = (
        replace(destination_of(path), said=str(target))
        if how.in_place
        else destination_of(how.output)
    )
    if not how.in_place and output.kind is Kind.FILE:
        if output.is_also(path):
            raise UsageError(
                f"{output.said} is the input itself",
                "name another file, or add --in-place, with a backup",
            )
        raise UsageError(f"{output.said} exists already", "name another file with -o, or move it")
    if output.replaced:
        try_out(output)
    return output


def backup_of(path: Path) -> Path:
    """Where the backup of a file goes."""
    return path.with_name(f"{path.name}.bak")


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _chosen(checkpoint: Checkpoint, how: Fixing) -> tuple[SavedModel, ...]:
    """The models of the file that are meant."""
    places = [saved.where for saved in checkpoint.models]
    listed = ", ".join(repr(place) for place in places)
    if not how.places:
        if len(places) > 1:
            raise UsageError(
                f"{checkpoint.name} holds {len(places)} models: {listed}",
                "say which: --where PLACE, several times, or --where all",
            )
        return checkpoint.models
    if ALL in how.places and ALL not in places:
        return checkpoint.models
    for place in how.places:
        if place not in places:
            raise UsageError(f"no model at {place!r}", f"the file has models at {listed}")
    return tuple(saved for saved in checkpoint.models if saved.where in how.places)


def _repaired(checkpoint: Checkpoint, saved: SavedModel, how: Fixing) -> ModelRepair:
    """All repairs of one model that were asked for."""
    result = ModelRepair(saved.where, ())
    if how.running is not None:
        # torch is imported here: the other repairs do without it.
        require_torch("re-estimating statistics")
        from normcheck.repair.estimating.repaired_statistics import reestimated

        with stopped_after(how.seconds):
            result = reestimated(checkpoint, saved, how)
    changes = {change.name: change for change in result.changes}
    done = []
    if how.unwarm:
        found, text = unwarmed(saved, how.momentum)
        changes |= {change.name: change for change in found}
        done.append(text)
    if how.counts:
        found, text = whole_counts(saved)
        # A count that another repair has set already is as it should be.
        changes = {change.name: change for change in found} | {
            name: _kept(change, found) for name, change in changes.items()
        }
        done.append(text)
    flags: list[int] = []
    if how.modes:
        if saved.form is not Form.MODULE:
            raise NormcheckError(
                f"--modes: {checkpoint.name} holds a {saved.form.value}, which has no modes",
                "call model.eval() after loading it",
            )
        flags, modules = training_flags(checkpoint, saved)
        if flags:
            done.append(f"{len(flags)} of {plural(modules, 'module')} set from train to eval mode")
    return replace(
        result,
        changes=tuple(changes.values()),
        flags=tuple(flags),
        done=tuple(text for text in done if text),
    )


def _kept(change: Change, whole: list[Change]) -> Change:
    """A change that also has to become a whole number where another repair says so."""
    named = any(other.name == change.name for other in whole)
    return replace(change, whole_numbers=True) if named else change


def _write(
    checkpoint: Checkpoint,
    path: Path,
    output: Destination,
    models: tuple[ModelRepair, ...],
    how: Fixing,
) -> Written:
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
    for model in models:
        saved = by_place.get(model.where)
        known = all_tensors(saved) if saved else {}
        for change in model.changes:
            ref = known.get(change.name)
            if ref is None:
                yield change.name
                continue
            raw = encoded(change.name, change.values, ref.dtype)
            wanted = decode(raw, ref.dtype, big_endian=False)
            if not np.array_equal(wanted, np.asarray(ref.values()).reshape(-1)):
                yield change.name
        if model.flags and (saved is None or any(r.training for r in saved.modules or ())):
            yield "training flags"
