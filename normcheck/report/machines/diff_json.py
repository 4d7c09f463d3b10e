"""A comparison as JSON: a scan's report, and what moved. Fields are promised in docs/diff.md."""

from collections.abc import Iterable
from math import isfinite
from typing import Any

from normcheck.compare.exports.export_match import ExportMatch
from normcheck.compare.hyperparameters import HyperparameterChange
from normcheck.compare.movement import Comparison, LayerChange, Movement, Side, Step
from normcheck.compare.movement_story import motion, story
from normcheck.compare.transform import Transformation
from normcheck.live.output_match import OutputMatch
from normcheck.report.diff_report import Diff
from normcheck.report.machines.as_json import render_json


def render_diff_json(diff: Diff) -> str:
    """The report with ``comparisons`` beside its lists."""
    return render_json(diff.report, {"comparisons": [_comparison(c) for c in diff.comparisons]})


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "story": story(comparison),
        "ranks": comparison.ranks,
        "checkpoints": [_side(side) for side in comparison.sides],
        "steps": [_step(step) for step in comparison.steps],
        "total": _step(comparison.total),
        "only_in_first": list(comparison.only_old),
        "only_in_last": list(comparison.only_new),
        "hyperparameters": [_hyperparameter(change) for change in comparison.hyperparameters],
        "weights_read": comparison.values_read,
        "weights": comparison.values,
        "notes": list(comparison.notes),
        "export": _match(comparison.match) if comparison.match is not None else None,
        "outputs": _outputs(comparison.outputs),
        "not_run": comparison.not_run or None,
        "decisions": _decisions(comparison.outputs),
    }


def _match(match: ExportMatch) -> dict[str, Any]:
    return {
        "norms": [
            {
                "path": norm.path,
                "fate": norm.fate.value,
                "differences": list(norm.differences),
                "weights_path": norm.weights_path or None,
                "deviation": norm.deviation if isfinite(norm.deviation) else str(norm.deviation),
            }
            for norm in match.norms
        ],
        "weights": [
            {
                "name": weight.name,
                "fate": weight.fate.value,
                "export_name": weight.theirs or None,
                "difference": weight.difference or None,
                "order": weight.order or None,
            }
            for weight in match.weights
        ],
        "functions": [_hyperparameter(change) for change in match.functions],
        "only_in_export": list(match.only_in_export),
        "in_training": len(match.in_training),
        "outputs": _outputs(match.outputs),
        "not_run": match.not_run or None,
    }


def _hyperparameter(change: HyperparameterChange) -> dict[str, str]:
    return {"path": change.path, "name": change.name, "old": change.old, "new": change.new}


def _transformed(found: Iterable[tuple[str, Transformation]]) -> list[dict[str, Any]]:
    """Tensors that one exact operation turned into what they are now."""
    return [
        {"name": name, "operation": t.sort, "text": t.text, "constant": t.constant}
        for name, t in found
    ]


def _outputs(outputs: OutputMatch | None) -> dict[str, Any] | None:
    if outputs is None:
        return None
    far = outputs.difference
    return {
        "samples": outputs.samples,
        "source": outputs.source,
        "difference": far if isfinite(far) else str(far),
        "largest": outputs.largest,
        "flips": outputs.flips,
        "tolerance": outputs.tolerance,
        "first_apart": outputs.first_apart or None,
    }


def _decisions(outputs: OutputMatch | None) -> dict[str, Any] | None:
    found = None if outputs is None else outputs.exchanged
    if found is None:
        return None
    return {
        "samples": found.samples,
        "source": found.source,
        "real": found.real,
        "fitted_to": found.fitted_to or None,
        "differ": found.differ,
        "old_with_new_statistics": found.old_with_new,
        "new_with_old_statistics": found.new_with_old,
        "old_re_estimated": found.old_re_estimated,
        "new_re_estimated": found.new_re_estimated,
    }


def _side(side: Side) -> dict[str, Any]:
    return {
        "target": side.target,
        "where": side.where,
        "format": side.format,
        "form": side.form,
        "size": side.size,
        "optimizer_steps": side.optimizer_steps,
        "dtype": side.floating,
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "old": step.old,
        "new": step.new,
        "motion": motion(step).value,
        "weights": _change(step.weights),
        "tensors": step.tensors,
        "tensors_moved": step.tensors_moved,
        "batches": _whole(step.batches),
        "optimizer_steps": step.steps_made,
        "layers": [_layer(layer) for layer in step.layers],
        "transformed": _transformed(step.transformed),
    }


def _layer(layer: LayerChange) -> dict[str, Any]:
    return {
        "path": layer.path,
        "kind": layer.kind,
        "features": layer.features,
        "weights_path": layer.weights_path or None,
        "weights": _change(layer.weights),
        "affine": _change(layer.affine),
        "running_mean": _change(layer.mean),
        "running_var": _change(layer.variance),
        "num_batches_tracked": [_whole(count) for count in layer.batches],
        "transformed": _transformed(layer.transformed),
    }


def _change(change: Movement | None) -> dict[str, Any] | None:
    if change is None:
        return None
    distance = change.distance
    return {"moved": change.moved, "distance": distance if isfinite(distance) else str(distance)}


def _whole(count: float | None) -> int | None:
    return None if count is None else int(count)
