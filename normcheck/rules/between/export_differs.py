"""An export that does not hold the numbers of its source.

## What it does
Holds an export (TorchScript, `torch.export`, ONNX) against the model that it was made from:
statistics, γ, β, eps and groups of each norm, weights, strides and activations of other layers, and
where a norm is gone, whether its numbers are in the weights before it, computed from the source.
Where the exporter left no names, layers are told by their numbers. With data, also the outputs of
both. Two state dicts are held so where one has norms folded into its weights, other names, or in
one tensor what the other has in several (queries, keys and values).

## Why is this bad?
What is deployed is then another model than the one that was trained and tested: exported before
the last training, from another checkpoint, with statistics that were lost on the way, or with a
batch norm that a converter dropped.

## How severe
An error where numbers differ, a norm was dropped, or outputs differ more than element types
explain. A warning where the export computes as in training, and where joined weights of one layer
lie in another order than those of most. Info where it cannot be told what
became of a norm.

## Stays silent
For rounding between element types and to quantised integers, γ = 1 and β = 0 written out, norms
that were folded as they should be, and weights with a factor for each output or input: something
else was folded into them.

## What to do
Export again from this very checkpoint, in eval mode, and compare again.

## Example
    normcheck diff model.pt model.onnx --data validation.npz --model net:Net
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normcheck.compare.exports.export_match import Fate
from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.rules.rule import CannotTell, Need, Rule, Subject
from normcheck.wording import fold, percent, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normcheck.compare.exports.export_match import ExportMatch, NormMatch
    from normcheck.compare.hyperparameters import HyperparameterChange
    from normcheck.live.output_match import OutputMatch

_SHOWN = 4


def check(subject: Subject) -> Iterator[Finding]:
    """Numbers first, then outputs where no number explains them."""
    match = subject.pair.match if subject.pair is not None else None
    if match is None:
        raise CannotTell("needs a model and its export")
    wrong = match.wrong
    if wrong:
        yield _numbers(match, wrong)
    if match.other_weights:
        yield _weights(match)
    odd = match.odd_orders
    if odd:
        yield _orders(odd)
    if match.functions:
        yield _functions(match.functions)
    if match.in_training:
        yield _training(match)
    outputs = match.outputs
    if outputs is not None and outputs.differ:
        yield _outputs(
            match, outputs, explained=bool(wrong or match.other_weights or match.functions)
        )
    lost = match.of(Fate.NOT_FOUND)
    if lost:
        yield _not_found(lost)


def _numbers(match: ExportMatch, wrong: tuple[NormMatch, ...]) -> Finding:
    dropped = [norm for norm in wrong if norm.fate in (Fate.DROPPED, Fate.LEFT_OUT)]
    layers = plural(len(wrong), "norm layer")
    return RULE.finding(
        layers=[norm.path for norm in wrong],
        title=f"{layers} {'was' if len(wrong) == 1 else 'were'} dropped by the export"
        if len(dropped) == len(wrong)
        else f"the export has other numbers than its source in {layers}",
        detail=" ".join(_of(norm) for norm in wrong[:_SHOWN])
        + (f" And {len(wrong) - _SHOWN} more." if len(wrong) > _SHOWN else ""),
        consequence="What is deployed is not the model that was trained and tested.",
        fix="export again from this very checkpoint, in eval mode, and compare again",
        evidence=(Evidence("norm layers that differ", float(len(wrong)), 0.0, len(match.norms)),),
        discriminator="numbers",
    )


def _weights(match: ExportMatch) -> Finding:
    other = match.other_weights
    paths = list(dict.fromkeys(weight.name.rpartition(".")[0] or weight.name for weight in other))
    listed = [f"{weight.name}: {weight.difference}." for weight in other[:_SHOWN]]
    more = len(other) - _SHOWN
    return RULE.finding(
        layers=paths,
        title=f"the export has other weights than its source in {plural(len(paths), 'layer')}",
        detail=" ".join(listed) + (f" And {more} more." if more > 0 else ""),
        consequence="What is deployed is not the model that was trained and tested.",
        fix="export again from this very checkpoint, and compare again",
        evidence=(Evidence("weights that differ", float(len(other)), 0.0, len(match.weights)),),
        discriminator="weights",
    )


def _orders(odd: dict[str, list[str]]) -> Finding:
    names = [name for listed in odd.values() for name in listed]
    return RULE.finding(
        severity=Severity.WARNING,
        layers=list(dict.fromkeys(name.rpartition(".")[0] or name for name in names)),
        title=f"{plural(len(names), 'joined tensor')} of weights in another order than the others",
        detail=" ".join(f"{fold(listed)}: {order}." for order, listed in odd.items()),
        consequence="One code reads them all: where it takes queries, it finds something else.",
        fix="look into the conversion of these layers",
        evidence=(Evidence("tensors in another order", float(len(names)), 0.0),),
        discriminator="order",
    )


def _training(match: ExportMatch) -> Finding:
    paths = match.in_training
    return RULE.finding(
        severity=Severity.WARNING,
        layers=paths,
        title=f"{plural(len(paths), 'operator')} of the export "
        f"{'computes' if len(paths) == 1 else 'compute'} as in training",
        detail=f"{fold(paths)}: what eval mode of the source computes is something else.",
        consequence="Outputs depend on the other samples of a batch, or are random.",
        fix="call model.eval() and export again; eval() on the loaded export changes nothing",
        evidence=(Evidence("operators in training mode", float(len(paths)), 0.0),),
        discriminator="training",
    )


def _functions(functions: tuple[HyperparameterChange, ...]) -> Finding:
    paths = list(dict.fromkeys(change.path for change in functions))
    listed = [f"{change.path}: {change}." for change in functions[:_SHOWN]]
    more = len(functions) - _SHOWN
    return RULE.finding(
        layers=paths,
        title=f"{plural(len(paths), 'layer')} of the export "
        f"{'computes' if len(paths) == 1 else 'compute'} otherwise than in the source",
        detail=" ".join(listed) + (f" And {more} more." if more > 0 else ""),
        consequence="The same tensors are another function with these: outputs differ.",
        fix="export again from this very model, and compare again",
        evidence=(Evidence("hyperparameters that differ", float(len(functions)), 0.0),),
        discriminator="functions",
    )


def _of(norm: NormMatch) -> str:
    if norm.fate is Fate.DROPPED:
        return f"{norm.path}: gone, and {norm.weights_path} has the source's weights."
    if norm.fate is Fate.LEFT_OUT:
        return f"{norm.path}: its statistics are not in the export, whose weights are the source's."
    if norm.fate is Fate.FOLDED_OTHERWISE:
        what = f"folded into {norm.weights_path} by other numbers"
        return f"{norm.path}: {what} ({', '.join(norm.differences)})."
    return f"{norm.path}: {', '.join(norm.differences)}."


def _outputs(match: ExportMatch, outputs: OutputMatch, *, explained: bool) -> Finding:
    flips = "" if outputs.flips is None else f"; {percent(outputs.flips)} of the decisions differ"
    reason = (
        " The export computes as in training (train-mode-export)."
        if match.in_training
        else " Their norms hold the same numbers: look for another preprocessing or an operator "
        "that was exported otherwise."
        if not explained
        else ""
    )
    return RULE.finding(
        title="the export gives other outputs than its source",
        detail=(
            f"On {plural(outputs.samples, 'sample')} ({outputs.source}) the outputs differ by "
            f"{percent(outputs.difference)}, at most by {outputs.largest:.3g}{flips}.{reason}"
        ),
        consequence="What is deployed predicts otherwise than what was tested.",
        fix="call model.eval(), export again from this very checkpoint, and compare again",
        evidence=(
            Evidence(
                "relative difference of the outputs",
                outputs.difference,
                outputs.tolerance,
                outputs.samples,
            ),
        ),
        discriminator="outputs",
    )


def _not_found(lost: tuple[NormMatch, ...]) -> Finding:
    return RULE.finding(
        severity=Severity.INFO,
        confidence=Confidence.MEDIUM,
        layers=[norm.path for norm in lost],
        title=f"what became of {plural(len(lost), 'norm layer')} cannot be told",
        detail=f"{fold([norm.path for norm in lost])}: under no name, and in no weights before.",
        consequence="The export may have them in another form; their numbers were not compared.",
        fix="compare the outputs of both (--data)",
        discriminator="not found",
    )


RULE = Rule(
    code="NC605",
    name="export-differs",
    summary="an export with other numbers or outputs than its source",
    severity=Severity.ERROR,
    need=Need.EXPORT,
    page=__doc__ or "",
    check=check,
)
