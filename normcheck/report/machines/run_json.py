"""The run of a model as JSON."""

from typing import Any

from normcheck.report.machines.json_numbers import json_number as number
from normcheck.report.run_summary import RunSummary


def as_values(run: RunSummary) -> dict[str, Any]:
    """What the run showed, without what differs from one run to the next."""
    fed = run.fed
    return {
        "fed": {
            "source": fed.source,
            "real": fed.real,
            "guessed": fed.guessed,
            "guessed_from": fed.guessed_from or None,
            "samples": fed.samples,
            "shapes": fed.shapes,
            "batch_size": fed.batch_size,
            "labelled": fed.labelled,
            "device": fed.device,
            "dtype": fed.dtype,
        },
        "modes": {
            "allclose": run.allclose,
            "largest_difference": number(run.largest_difference),
            "mode_dependent": run.mode_dependent,
        },
        "outputs": [
            {
                "regime": regime.name,
                "difference": number(regime.difference),
                "changed": number(regime.flips),
                "accuracy": number(regime.accuracy),
                "loss": number(regime.loss),
                "samples": regime.samples,
            }
            for regime in run.regimes
        ],
        "noise": [
            {
                "batch_size": entry.batch_size,
                "difference": number(entry.difference),
                "changed": number(entry.flips),
                "effective_values": number(entry.effective),
            }
            for entry in run.noise
        ],
        "layers": [
            {
                "path": drift.path,
                "shift": number(drift.shift),
                "variance_ratio": number(drift.factor),
                "channels_off": number(drift.off),
                "closes": number(drift.closes),
            }
            for drift in run.drifts
        ],
        "residual": number(run.residual),
        "forwards": run.forwards,
        "notes": list(run.notes),
    }
