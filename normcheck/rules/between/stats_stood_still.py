"""Weights that moved under running statistics that did not.

## What it does
Compares two checkpoints, or each with the next of a series. Reported are batch norms whose
`running_mean` and `running_var` are identical in both while the weights before them, γ or β
moved. Layers in which neither moved, beside others that did, are named as a frozen part.

## Why does it matter?
Every forward pass in train mode moves the running statistics. Where weights were trained and
statistics are bit for bit what they were, no such pass reached these layers:
- **Training ran in eval mode.** Most often `model.eval()` was called for a validation and
  `model.train()` not called after it. Dropout was off as well from then on.
- **The norms are frozen on purpose**: `norm_eval`, FrozenBatchNorm, fine-tuning with small
  batches. With γ and β unchanged this is the likelier reading.
- **The weights did not come from training alone**: averaged over steps (EMA, SWA) or loaded
  from elsewhere, with the buffers left behind.

In the first two cases the weights were trained for these very statistics: eval mode predicts
as trained, and re-estimating would ruin it. In the third the statistics are stale and eval
mode suffers. Two files alone cannot tell the three apart.

## How severe
A warning. Info for a frozen part, and for layers that look like FrozenBatchNorm in a state dict:
without a batch count, γ and β identical as well.

## Stays silent
- between identical files, and where only the optimizer's state differs;
- where all that moved went through one exact operation each (`exact-transformation`);
- for FrozenBatchNorm, where a file says that a layer is one;
- for differences below the rounding of the coarser of two element types.

## What to do
Look where the training loop calls `eval()` and `train()`. Where the norms were frozen on
purpose, ignore this finding. Where weights were averaged or loaded, re-estimate the
statistics on training data (`torch.optim.swa_utils.update_bn`).

## Example
    for epoch in range(epochs):
        train_one_epoch(model)   # no model.train() in it
        model.eval()             # from the second epoch on, training runs in eval mode
        validate(model)
        torch.save(model.state_dict(), f"epoch-{epoch}.pt")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.norms.kinds import Family
from normcheck.norms.layer_numbers import median
from normcheck.rules.between.accused_layers import Accused, accuse
from normcheck.rules.between.frozen_parts import frozen_by_class, frozen_norms, frozen_part
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.saved.clocks import OPTIMIZER
from normcheck.wording import number, percent, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from normcheck.compare.movement import Comparison, LayerChange, Step


def check(subject: Subject) -> Iterator[Finding]:
    """Layers that were trained without their statistics, and those not trained at all."""
    comparison = subject.compared
    steps = [step for step in comparison.steps if step.learned]
    if comparison.ranks or comparison.converted or not steps:
        return
    trained = accuse(comparison, steps, lambda step: [n for n in _still(step) if n.learned])
    accused = accuse(comparison, steps, _trained_still)
    if accused:
        yield _trained_without(accused)
    # A layer that is frozen in some steps only is a matter of schedule.
    idle = [{n.path for n in _still(step) if n.learned is False} for step in steps]
    by_class = [n for n in trained.layers if n.path not in accused.paths]
    if by_class:
        yield frozen_norms(RULE, by_class)
    frozen = set.intersection(*idle) - set(trained.paths)
    if frozen:
        layers = [n for n in comparison.total.layers if n.path in frozen]
        yield frozen_part(RULE, comparison, layers)


def _still(step: Step) -> Iterator[LayerChange]:
    for layer in step.tracked:
        if not layer.stats_moved and layer.family is not Family.FROZEN_BATCH:
            yield layer


def _trained_still(step: Step) -> list[LayerChange]:
    return [n for n in _still(step) if n.learned and not frozen_by_class(n)]


def _trained_without(accused: Accused) -> Finding:
    moves = [n.weights.distance for n in accused.each if n.weights and n.weights.moved]
    affine = [n.affine.moved for n in accused.each if n.affine is not None]
    others = {n.path for step in accused.steps for n in step.tracked if n.stats_moved}
    others -= set(accused.paths)
    detail = (
        f"running_mean and running_var are identical in all "
        f"{plural(accused.channels, 'channel')}{accused.when}, while {_what_moved(moves, affine)}."
    )
    if others:
        detail += f" The statistics of {plural(len(others), 'other layer')} moved."
    detail += _counts(accused.counted)
    made = [step.steps_made or 0 for step in accused.steps]
    if min(made) > 0:
        clock = accused.steps[0].clock
        by_loop = clock is not None and clock.name != OPTIMIZER
        who = f"The training loop ({clock.name})" if clock and by_loop else "The optimizer"
        detail += f" {who} made {plural(sum(made), 'step')}."
    consequence, fix = _meaning(accused.comparison, trained_affine=any(affine) or not affine)
    # A step may vanish in the rounding of half precision, though hardly in every channel.
    half = any(side.floating in ("float16", "bfloat16") for side in accused.comparison.sides)
    return RULE.finding(
        layers=accused.paths,
        confidence=Confidence.MEDIUM if half else Confidence.HIGH,
        title=(
            f"{accused.norms} kept {'its' if len(accused.paths) == 1 else 'their'} "
            "statistics while weights moved"
        ),
        detail=detail,
        consequence=consequence,
        fix=fix,
        evidence=(
            Evidence(
                "median relative movement of the weights before the layers",
                median(moves) if moves else 0.0,
                0.0,
                len(moves),
            ),
            Evidence("movement of the running statistics", 0.0, 0.0, len(accused.paths)),
        ),
        discriminator="trained",
    )


def _what_moved(moves: Sequence[float], affine: Sequence[bool]) -> str:
    parts = []
    if moves:
        parts.append(f"the weights before them moved by {percent(median(moves))} of their length")
    if any(affine):
        parts.append("γ and β moved" if not moves else "γ and β moved as well")
    elif affine:
        parts.append("γ and β did not move either")
    return " and ".join(parts)


def _counts(counted: Sequence[float]) -> str:
    if not counted:
        return " No batch count is stored."
    if max(counted) == min(counted) == 0:
        return " No batch was counted: no forward pass in train mode reached them."
    if min(counted) > 0:
        return (
            f" Yet up to {number(max(counted))} batches were counted: momentum 0, or the "
            "statistics were put back."
        )
    return ""


def _meaning(comparison: Comparison, *, trained_affine: bool) -> tuple[str, str]:
    """What it may mean for predictions, and what to do."""
    if comparison.sibling_moved:
        consequence = (
            f"The copy under '{comparison.sibling_moved}' in the same files has statistics that "
            "moved: this one gets new weights and keeps old statistics, so its predictions in "
            "eval mode fall behind its weights."
        )
        fix = (
            "copy or average the buffers along with the weights, or re-estimate the statistics "
            "on training data before this copy is used"
        )
        return consequence, fix
    consequence = (
        "Training ran in eval mode, or the norms are frozen on purpose: then the model predicts "
        "as it was trained, and re-estimating would ruin it. Or the weights were averaged (EMA, "
        "SWA) or loaded and the statistics left behind: then they are stale. The files alone "
        "cannot tell."
    )
    if not trained_affine:
        consequence += " γ and β stood still too, which speaks for frozen norms."
    fix = (
        "see that model.train() follows every model.eval() in the training loop; ignore this "
        "where the norms are frozen on purpose; where weights were averaged or loaded, "
        "re-estimate on training data (torch.optim.swa_utils.update_bn)"
    )
    return consequence, fix


RULE = Rule(
    code="NC601",
    name="stats-stood-still",
    summary="weights moved, running statistics did not",
    severity=Severity.WARNING,
    need=Need.PAIR,
    page=__doc__ or "",
    check=check,
)
