"""Every export made in training mode is named with its operators, and no other is accused."""

from pathlib import Path

import pytest

from normcheck import Report, scan
from normcheck.findings import Finding, Severity
from tests.formats.exports.models import CASES, Case, exported, scripted, traced

pytestmark = pytest.mark.filterwarnings("ignore")


def _accusations(path: Path) -> list[Finding]:
    report: Report = scan(path)
    assert not report.errors, report.errors
    return [f for f in report.findings if f.rule == "NC204" and f.severity is not Severity.INFO]


def _check(path: Path, expected: frozenset[str]) -> None:
    found = _accusations(path)
    if not expected:
        assert not found
        return
    assert len(found) == 1, "one cause is one finding"
    modules = set(found[0].layers)
    named = expected - {""}
    # The model's own forward has no name; it shows in the operators that are listed.
    assert named <= modules <= named | {"self_attn"}
    listed = found[0].detail
    assert any(f"{module} (" in listed for module in named) or not named


DECOMPOSED = ("convolutional", "functional", "instance norm", "standardised weights", "attention")
"""Decomposing takes seconds: the cases in which it changes the operators that matter."""
ROADS = {
    "traced": traced,
    "exported": exported,
    "decomposed": lambda case, path, training: exported(
        case, path, training=training, decomposed=True
    ),
}
BY_ROAD = [
    pytest.param(case, road, id=f"{case.name}, {road}")
    for case in CASES
    for road in ROADS
    if road != "decomposed" or case.name in DECOMPOSED
]


@pytest.mark.parametrize(("case", "road"), BY_ROAD)
def test_training_mode_is_named(case: Case, road: str, tmp_path: Path) -> None:
    path = ROADS[road](case, tmp_path / "model.pt2", training=True)
    _check(path, case.named)


@pytest.mark.parametrize(("case", "road"), BY_ROAD)
def test_eval_mode_is_not_accused(case: Case, road: str, tmp_path: Path) -> None:
    path = ROADS[road](case, tmp_path / "model.pt2", training=False)
    _check(path, case.always)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(
    "case", [case for case in CASES if case.scriptable], ids=lambda case: case.name
)
def test_scripted_code_is_followed_as_its_flags_are(
    case: Case, training: bool, tmp_path: Path
) -> None:
    path = scripted(case, tmp_path / "model.pt", training=training)
    expected = case.named if training else case.always
    _check(path, expected)
    for finding in _accusations(path):
        # A forgotten flag is in the code: eval() after loading does not help.
        helps = finding.fix.startswith("call eval() on the loaded module")
        assert helps == (training and not case.always)
