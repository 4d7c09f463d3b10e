"""The report for programs."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from math import inf, nan
from pathlib import Path

import pytest

from normcheck.findings import Evidence
from normcheck.report.machines.as_json import render_json
from normcheck.runs.scan import scan

pytestmark = pytest.mark.slow


def test_numbers_that_json_lacks_become_strings(samples: Path) -> None:
    """NaN and infinity are strings, so that any parser can read the report."""
    report = scan([samples / "nan-statistics.pt"])
    finding = replace(report.findings[0], evidence=(Evidence("x", nan, inf),))
    value = json.loads(
        render_json(replace(report, findings=(finding,))), parse_constant=lambda _: 1 / 0
    )
    assert value["findings"][0]["evidence"][0]["value"] == "nan"
    assert value["findings"][0]["evidence"][0]["threshold"] == "inf"
    assert value["models"][0]["layers"][0]["running_mean"]["median"] == "nan"


def test_two_runs_are_byte_equal() -> None:
    """Hash seeds do not show in the output."""
    outputs = {
        subprocess.run(
            [sys.executable, "-m", "normcheck", "scan", "sample_models", "-f", "json"],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=False,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_summary_counts_what_is_listed(samples: Path) -> None:
    """The summary's numbers are the lengths of the lists."""
    value = json.loads(render_json(scan([samples, samples / "missing-file.pt"])))
    summary = value["summary"]
    severities = [finding["severity"] for finding in value["findings"]]
    assert summary["models"] == len(value["models"]) > 20
    assert summary["errors"] == severities.count("error")
    assert summary["warnings"] == severities.count("warning")
    assert summary["infos"] == severities.count("info")
    assert summary["skipped"] == len(value["skipped"])
    assert summary["unread"] == len(value["errors"]) == 1
    assert "missing-file.pt" in value["errors"][0]["message"]


def test_a_model_carries_its_layers_and_how_it_was_read(samples: Path) -> None:
    """Format, form, class and one entry a layer with kind and statistics."""
    value = json.loads(render_json(scan([samples / "digits-healthy-module.pt"])))
    model = value["models"][0]
    assert (model["format"], model["form"]) == ("torch zip", "whole module")
    assert model["class"] == "sample_models.networks.DigitsNet"
    layer = model["layers"][0]
    assert (layer["kind"], layer["eps"], layer["momentum"]) == ("BatchNorm2d", 1e-05, 0.1)
    assert layer["recognised"]["confidence"] == "high"
    assert layer["running_var"]["smallest"] > 0
    assert layer["training"] is False


def test_links_carry_their_numbers(samples: Path) -> None:
    """One entry a link with ends, certainty and fit, and what could not be judged."""
    value = json.loads(render_json(scan([samples / "digits-healthy.pt"])))
    agreement = value["models"][0]["agreement"]
    assert agreement["activation"] == "ReLU"
    assert agreement["explained"] > 0.9
    assert len(agreement["links"]) == 5
    link = agreement["links"][0]
    assert (link["source"], link["weights"], link["target"]) == (
        "stem.norm",
        "block.first.conv",
        "block.first.norm",
    )
    assert link["explained"] > 0.9
    assert link["kind"] == "convolution"
    assert agreement["unjudged"] == [{"layer": "stem.norm", "reason": "no norm feeds it directly"}]
