"""A report in a run of MLflow: metrics, and the report as artifacts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlflow

from normcheck.integrations.tracked_values import files_of, metrics_of

if TYPE_CHECKING:
    from normcheck.report.report import Report


def log_to_mlflow(report: Report, *, step: int | None = None, folder: str = "normcheck") -> None:
    """Log a report to the active run of MLflow; one is started where there is none.

    Args:
        report: Of a scan or of a guard.
        step: Step of the training to which the metrics belong.
        folder: Of the run's artifacts, where the report goes.
    """
    mlflow.log_metrics(metrics_of(report), step=step)
    for name, text in files_of(report).items():
        mlflow.log_text(text, f"{folder}/{name}")
