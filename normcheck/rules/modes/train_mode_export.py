"""An export whose operators compute as in training.

## What it does
Looks at the operators of a TorchScript, `torch.export` or ONNX file: is a batch norm with
running statistics, a dropout, an attention or a recurrent layer with dropout in training mode?

## Why is this bad?
An export keeps the mode in which it was made. Batch norms in training mode normalise with the
statistics of the batch they are given: a prediction depends on the other samples, a batch of
one is normalised by itself, and where the format can do so each call changes the running
statistics. Dropout goes on dropping: two calls with one input differ. `eval()` on the loaded
program changes it only in scripted code, which asks for its flag.

## How severe
A warning, and an error where a run measures what it does (`--run`). An ONNX file is run as it
stands and as it is deployed: at its default optimisations ONNX Runtime takes out a dropout in
training mode that stands between two operators, and keeps one at the graph's first or last; where
only the file as it stands is random it stays a warning.

Info where batch norms were folded into the weights although the export was made in training mode:
what is left computes as in eval mode. Info too for batch norms in eval mode whose program still
counts batches, as programs have that were exported in train mode and moved to eval mode afterwards
(`move_exported_model_to_eval`); and where the mode of a dropout is an input of the model, which
whoever calls it gives.

## Stays silent
For instance norm, which formats write as a batch norm over one sample; for weight
standardisation, which normalises weights; for dropout of probability 0; for a batch norm without
running statistics, which has no other mode (`batch-stats-in-eval`).

## What to do
Call `model.eval()`, then export again. Where only dropout is named, look for `F.dropout(x)`
without `training=self.training`, and for `dropout_p` of `scaled_dot_product_attention`.
Scripted code (`torch.jit.script`) asks for its flag: there `eval()` after loading helps too.

## Example
    program = torch.export.export(model, (x,))  # model.training is True
    torch.export.save(program, "model.pt2")
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.rules.rule import COUNTER, Need, Rule, Subject
from normcheck.saved.graph import Op
from normcheck.wording import fold, percent, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normcheck.live.measurement import Mechanics
    from normcheck.norms.recognise.baked_modes import BakedMode

_NAMES = {
    Op.BATCH_NORM: "batch norm",
    Op.DROPOUT: "dropout",
    Op.RANDOM_MASK: "random mask",
    Op.ATTENTION: "attention with dropout",
    Op.RECURRENT: "recurrent layer with dropout",
}


def check(subject: Subject) -> Iterator[Finding]:
    """All operators in training mode as one finding: they have one cause."""
    modes = subject.anatomy.baked
    if modes:
        yield _trained(subject, modes)
    folded = [path for path, training in subject.anatomy.folded if training]
    if folded and not any(mode.what is Op.BATCH_NORM for mode in modes):
        yield RULE.finding(
            severity=Severity.INFO,
            title=(
                f"exported in training mode, but {plural(len(folded), 'batch norm')} "
                f"{'was' if len(folded) == 1 else 'were'} folded"
            ),
            detail=f"{fold(folded)}: the exporter put the running statistics into the weights.",
            consequence="Here they compute as in eval mode.",
            fix="call model.eval() before exporting, so that this does not depend on the exporter",
            discriminator="folded",
        )
    given = [name for name, _ in subject.anatomy.modes_given]
    if given:
        count = sum(number for _, number in subject.anatomy.modes_given)
        yield RULE.finding(
            severity=Severity.INFO,
            title=f"whoever calls the model chooses the mode of {plural(count, 'dropout')}",
            detail=f"The mode is an input of the model: {fold(given)}.",
            consequence="Where true is given, two calls with the same input give different "
            "outputs.",
            fix=f"give false for {fold(given)} in production, or export again with a constant mode",
            discriminator="given",
        )
    counting = subject.anatomy.still_counting
    if counting:
        yield RULE.finding(
            severity=Severity.INFO,
            layers=counting,
            title=f"{plural(len(counting), 'batch norm')} in eval mode still "
            f"{'counts' if len(counting) == 1 else 'count'} batches",
            detail="num_batches_tracked grows by 1 a call: exported in train mode, and moved to "
            "eval mode afterwards, as quantization does.",
            consequence="Outputs do not depend on it; the program writes to its own buffers.",
            fix="export in eval mode, or remove the adds to num_batches_tracked",
            discriminator="counting",
        )


def _trained(subject: Subject, modes: tuple[BakedMode, ...]) -> Finding:
    norms = [mode for mode in modes if mode.what is Op.BATCH_NORM]
    others = [mode for mode in modes if mode.what is not Op.BATCH_NORM]
    only_masks = all(mode.what is Op.RANDOM_MASK for mode in modes)
    switchable = all(mode.switchable for mode in modes)
    seen = subject.run.mechanics if subject.run is not None and not switchable else None
    measured = _measured(seen) if seen is not None else []
    # What the runtime removes by default does harm only where that is switched off.
    taken_out = seen is not None and seen.deployed_difference == 0 and len(measured) == 1
    harmless = taken_out and not norms
    in_eval = sum(n.training is False for n in subject.batch_norms())
    trained = bool(norms) or not in_eval or any(t for _, t in subject.anatomy.folded)
    return RULE.finding(
        severity=Severity.ERROR if measured and not harmless else Severity.WARNING,
        confidence=Confidence.MEDIUM if only_masks and not measured else Confidence.HIGH,
        layers=list(dict.fromkeys(mode.module for mode in modes if mode.module)),
        title=f"exported in training mode: {_counted(modes)}"
        if trained
        else f"random in every call: {_counted(modes)} in an export of eval mode",
        detail=" ".join([_detail(norms, others, in_eval), *(text for text, _ in measured)]),
        consequence=_consequence(norms, others),
        fix=_fix(norms=trained, switchable=switchable),
        evidence=(
            Evidence("operators in training mode", float(len(modes)), 0.0, len(modes) + in_eval),
            *(number for _, number in measured),
        ),
        # Without the count: one more dropout is the same mistake.
        discriminator="norms" if norms else "dropout",
    )


def _measured(seen: Mechanics) -> list[tuple[str, Evidence]]:
    """What forwards of the export showed of it."""
    found = []
    again, among = seen.repeat_difference, seen.companions_difference
    if again > seen.tolerance:
        text = f"Two forwards of the same batch differ by {percent(again)} of the output"
        deployed = seen.deployed_difference
        if deployed is not None:
            text += " as the file stands (optimisations off)"
            text += (
                f", and by {percent(deployed)} as ONNX Runtime deploys it (default optimisations)"
                if deployed
                else "; as ONNX Runtime deploys it (default optimisations, which take out a "
                "dropout between two operators) they are equal"
            )
        text += "."
        found.append((text, Evidence("relative difference of two forwards", again, 0.0)))
    if among is not None and among > seen.tolerance:
        text = f"Among other companions a sample's output changes by {percent(among)}."
        number = Evidence("relative difference among companions", among, seen.tolerance)
        found.append((text, number))
    changed = [name for name in seen.changed_state if not name.endswith(COUNTER)]
    if changed:
        count = len(changed)
        text = f"Each forward changes {plural(count, 'stored tensor')}."
        found.append((text, Evidence("tensors changed by a forward", float(count), 0.0)))
    return found


def _counted(modes: tuple[BakedMode, ...]) -> str:
    counts = Counter(_NAMES[mode.what] for mode in modes)
    return ", ".join(plural(number, name) for name, number in counts.items())


def _detail(norms: list[BakedMode], others: list[BakedMode], in_eval: int) -> str:
    parts = []
    if norms:
        parts.append(f"In training mode: {fold([mode.place for mode in norms])}.")
    if others:
        dropped = sorted({f"{mode.p:g}" for mode in others if mode.p is not None})
        share = f", p = {' and '.join(dropped)}" if dropped else ""
        parts.append(f"Dropping at random: {fold([mode.place for mode in others])}{share}.")
    if in_eval:
        parts.append(f"{plural(in_eval, 'batch norm')} {'is' if in_eval == 1 else 'are'} in eval "
                     "mode.")  # fmt: skip
    return " ".join(parts)


def _consequence(norms: list[BakedMode], others: list[BakedMode]) -> str:
    parts = []
    if norms:
        parts.append(
            "Each sample is normalised with the statistics of its batch: predictions depend on "
            "the other samples in it, and the running statistics are not used."
        )
    if others:
        parts.append("Two calls with the same input give different outputs.")
    return " ".join(parts)


def _fix(*, norms: bool, switchable: bool) -> str:
    if switchable:
        return (
            "call eval() on the loaded module, whose code asks for its mode; next time call "
            "model.eval() before saving"
        )
    if norms:
        return "call model.eval() and export again; eval() on the loaded export changes nothing"
    return (
        "give F.dropout training=self.training, and scaled_dot_product_attention dropout_p=0 in "
        "eval mode; then export again"
    )


RULE = Rule(
    code="NC204",
    name="train-mode-export",
    summary="an export with batch norm or dropout in training mode",
    severity=Severity.ERROR,
    need=Need.STATE,
    page=__doc__ or "",
    check=check,
)
