"""The words that some settings choose among."""

from normcheck.report.forms import NAMES

FORMATS = NAMES
"""Forms of the report, in the order of the documentation."""
SEVERITIES = ("error", "warning", "info")
FAILING = ("error", "warning")
"""Severities that can fail a run: info never does."""
CONFIDENCES = ("high", "medium", "low")
