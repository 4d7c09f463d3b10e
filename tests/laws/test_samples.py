"""Every sample model gets the verdict that its history deserves."""

import json
from pathlib import Path

import pytest

from normcheck.runs.scan import scan

SAYS = {
    "averaged-without-buffers.pt": {"NC103"},
    "half-precision-damage.pt": {"NC109"},
    "missing-statistics.pt": {"NC107"},
    "mixed-modes-module.pt": {"NC202"},
    "mlp-never-updated.pt": {"NC101"},
    "nan-statistics.pt": {"NC104"},
    "negative-variance.pt": {"NC105"},
    "never-updated-trained-in-eval.pt": {"NC101"},
    "no-running-stats-module.pt": {"NC205"},
    "saved-in-train-mode-module.pt": {"NC201"},
    "statistics-lost.pt": {"NC101"},
    "statistics-partly-lost.pt": {"NC101"},
    "statistics-reset-count-kept.pt": {"NC102"},
    "too-few-batches-mild.pt": {"NC103"},
    "too-few-batches.pt": {"NC103"},
    "foreign-statistics.pt": {"NC108"},
    "exported-in-train-mode.pt2": {"NC204"},
}
MANIFEST = json.loads(
    (Path(__file__).parents[2] / "sample_models/manifest.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("entry", MANIFEST, ids=lambda entry: entry["file"])
def test_sample(entry: dict[str, object], samples: Path) -> None:
    """Healthy samples stay silent; sick ones get the rule that fits, and no other."""
    name = str(entry["file"])
    report = scan([samples / name])
    assert report.errors == ()
    loud = {f.rule for f in report.findings if f.severity.rank > 0}
    assert loud == (set() if entry["healthy"] else SAYS[name])


def test_manifest_lists_every_file(samples: Path) -> None:
    """No sample is without a story."""
    suffixes = {".pt", ".pt2", ".pth", ".ckpt", ".safetensors"}
    files = {p.name for p in samples.iterdir() if p.suffix in suffixes}
    assert files == {entry["file"] for entry in MANIFEST}
