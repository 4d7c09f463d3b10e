"""All repairs of one model that were asked for, one after another."""

from dataclasses import replace

from normcheck.errors import NormcheckError
from normcheck.live.torch_there import require_torch
from normcheck.repair.batch_counts import whole_counts
from normcheck.repair.editing.training_flags import training_flags
from normcheck.repair.repair_request import Fixing
from normcheck.repair.repair_result import ModelRepair, TensorEdit
from normcheck.repair.time_limit import stopped_after
from normcheck.repair.unwarm import unwarmed
from normcheck.saved.checkpoint import Checkpoint, Form, SavedModel
from normcheck.wording import plural


def repair_model(checkpoint: Checkpoint, saved: SavedModel, how: Fixing) -> ModelRepair:
    """All repairs of one model that were asked for."""
    result = ModelRepair(saved.where, ())
    if how.running is not None:
        # torch is imported here: the other repairs do without it.
        require_torch("re-estimating statistics")
        with stopped_after(how.seconds):
            result = _estimated(checkpoint, saved, how)
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


def _estimated(checkpoint: Checkpoint, saved: SavedModel, how: Fixing) -> ModelRepair:
    if how.without_data:
        from normcheck.repair.emergency.permission import accused_layers

        accused = accused_layers(checkpoint, saved)
        from normcheck.repair.emergency.on_fields import estimated_on_fields

        return estimated_on_fields(checkpoint, saved, how, accused)
    from normcheck.repair.estimating.repaired_statistics import reestimated

    return reestimated(checkpoint, saved, how)


def _kept(change: TensorEdit, whole: list[TensorEdit]) -> TensorEdit:
    """A change that also has to become a whole number where another repair says so."""
    named = any(other.name == change.name for other in whole)
    return replace(change, whole_numbers=True) if named else change
