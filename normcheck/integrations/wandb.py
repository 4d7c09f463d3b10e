"""A report in a run of Weights & Biases: metrics, and the report as an artifact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import wandb

from normcheck.errors import UsageError
from normcheck.integrations.tracked_values import files_of, metrics_of

if TYPE_CHECKING:
    from normcheck.report.report import Report


def log_to_wandb(
    report: Report, run: Any = None, *, step: int | None = None, name: str = "normcheck"
) -> None:
    """Log a report to a run of Weights & Biases.

    Args:
        report: Of a scan or of a guard.
        run: By default the active one.
        step: Step of the training to which the metrics belong.
        name: Of the artifact.

    Raises:
        UsageError: There is no run.
    """
    chosen = run if run is not None else wandb.run
    if chosen is None:
        raise UsageError("there is no run of wandb", "call wandb.init() before, or give the run")
    chosen.log(metrics_of(report), step=step)
    artifact = wandb.Artifact(name, type="report")
    for file, text in files_of(report).items():
        with artifact.new_file(file, mode="w", encoding="utf-8") as out:
            out.write(text)
    chosen.log_artifact(artifact)
