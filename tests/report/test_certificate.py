"""What a report says for a model is derived from what was judged, and never contradicts itself."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from normcheck import scan as scan_object
from normcheck.config.examination import Examination
from normcheck.config.policy import LayerIgnore, Policy
from normcheck.findings import Severity
from normcheck.live.measurement import Fed
from normcheck.norms.anatomy import Anatomy
from normcheck.report.certificate import ENOUGH, certificate_for, certificate_of, with_layers
from normcheck.report.healthy_reading import folding, reading
from normcheck.report.machines.as_json import render_json
from normcheck.report.people.as_markdown import render_markdown
from normcheck.report.people.text_style import TextStyle
from normcheck.report.report import ModelReport, Report, Standing
from normcheck.report.run_summary import DriftSummary, RunSummary
from normcheck.rules.catalogue import select
from normcheck.runs.scan import scan
from tests.norms.settled import conv_net, settle
from tests.report.everything import text_of

State = dict[str, torch.Tensor]
BLOCKS = 5


@pytest.fixture(scope="module")
def healthy() -> State:
    """A chain of five blocks whose statistics belong to their weights."""
    torch.manual_seed(0)
    return dict(settle(conv_net(nn.ReLU(), blocks=BLOCKS), 3, 12, 12).state_dict())


def _set(leaf: str, value: float) -> Callable[[State, str], None]:
    def change(state: State, norm: str) -> None:
        state[f"{norm}.{leaf}"] = torch.full_like(state[f"{norm}.{leaf}"], value)

    return change


def _both(mean: float, variance: float) -> Callable[[State, str], None]:
    def change(state: State, norm: str) -> None:
        _set("running_mean", mean)(state, norm)
        _set("running_var", variance)(state, norm)

    return change


def _lose(*leaves: str) -> Callable[[State, str], None]:
    def change(state: State, norm: str) -> None:
        for leaf in leaves:
            state.pop(f"{norm}.{leaf}", None)

    return change


def _permute(state: State, norm: str) -> None:
    for leaf in ("running_mean", "running_var"):
        state[f"{norm}.{leaf}"] = state[f"{norm}.{leaf}"].flip(0)


IMPOSSIBLE: dict[str, Callable[[State, str], None]] = {
    "initial": _both(0.0, 1.0),
    "zero": _both(0.0, 0.0),
    "nan": _set("running_mean", float("nan")),
    "negative": _set("running_var", -1.0),
    "no buffers": _lose("running_mean", "running_var", "num_batches_tracked"),
    "half": _lose("running_var"),
    "no numbers": lambda s, n: s.update(
        {f"{n}.{leaf}": s[f"{n}.{leaf}"].to("meta") for leaf in ("running_mean", "running_var")}
    ),
}
"""What no layer with it may be vouched for, whatever rules run."""
CHANGES: dict[str, Callable[[State, str], None]] = {
    **IMPOSSIBLE,
    "healthy": lambda _state, _norm: None,
    "permuted": _permute,
    "not counted": _set("num_batches_tracked", 0),
    "three batches": _set("num_batches_tracked", 3),
}
_VOUCHED = Standing.VOUCHED
RULES = (["ALL"], ["NC504"], ["NC1"], ["NC101", "NC104"], ["NC108"])


def _consistent(report: Report, model: ModelReport) -> None:
    """What no two sentences of a report may say."""
    certificate = certificate_of(model.layers)
    groups = (*certificate.vouched, *certificate.accused, *certificate.untold)
    assert sorted(p for g in groups for p in g.layers) == sorted(n.path for n in model.layers)
    loud = [f for f in report.findings if f.severity is not Severity.INFO]
    hidden = [s.finding for s in report.suppressed if s.finding.severity is not Severity.INFO]
    named = {path for finding in (*loud, *hidden) for path in finding.layers}
    standing = {layer.path: layer.standing for layer in model.layers}
    assert {p for p, s in standing.items() if s is Standing.ACCUSED} == named & set(standing)
    if certificate.earned:
        assert not named
        stored = [layer for layer in model.layers if layer.mean or layer.standing is not _VOUCHED]
        sure = [layer for layer in stored if layer.standing is _VOUCHED]
        assert len(sure) >= ENOUGH * len(stored)  # all of them are equally wide
    text = text_of(report, TextStyle(width=100))
    lines = text.splitlines()
    praised = any(line.startswith("✓ Nothing") for line in lines)
    assert praised == (certificate.earned and not loud and not hidden)
    ticked = {n.path for n in model.layers if any(f"✓ {n.path} " in line for line in lines)}
    assert ticked == {n.path for n in model.layers if n.standing is Standing.VOUCHED} - {
        n.path for n in model.layers if n.rules or n.suppressed
    }
    assert "were collected" not in text
    written = json.loads(render_json(report))["models"][0]
    assert written["certificate"]["earned"] == certificate.earned
    assert written["certificate"]["vouched_for"]["layers"] == sum(
        entry["standing"] == "vouched for" for entry in written["layers"]
    )
    assert ("✅" in render_markdown(report)) == certificate.earned


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.lists(st.sampled_from(sorted(CHANGES)), min_size=BLOCKS, max_size=BLOCKS),
    chosen=st.sampled_from(RULES),
    ignore=st.booleans(),
)
def test_no_two_sentences_contradict_each_other(
    healthy: State, tmp_path: Path, changes: list[str], chosen: list[str], *, ignore: bool
) -> None:
    """Files with any mixture of faults, any rules, findings ignored or not."""
    state = dict(healthy)
    for block, change in enumerate(changes):
        CHANGES[change](state, str(3 * block + 1))
    file = tmp_path / "model.pt"
    torch.save(state, file)
    ignores = (LayerIgnore("*", ("ALL",), "known"),) if ignore else ()
    asked, policy = Examination(rules=select(chosen, [])), Policy(layer_ignores=ignores)
    report = scan([file], asked, policy)
    assert report.errors == ()
    (model,) = report.models
    _consistent(report, model)
    standing = {layer.path: layer.standing for layer in model.layers}
    for block, change in enumerate(changes):
        if change in IMPOSSIBLE:
            assert standing[str(3 * block + 1)] is not Standing.VOUCHED


@pytest.mark.parametrize("change", sorted(IMPOSSIBLE))
def test_no_mark_over_statistics_that_were_not_looked_at(
    healthy: State, tmp_path: Path, change: str
) -> None:
    """A whole model of it gets no check mark by any rules."""
    state = dict(healthy)
    for block in range(BLOCKS):
        IMPOSSIBLE[change](state, str(3 * block + 1))
    torch.save(state, tmp_path / "model.pt")
    for chosen in RULES:
        text = text_of(
            scan([tmp_path / "model.pt"], Examination(rules=select(chosen, []))), TextStyle()
        )
        assert "✓" not in text


def test_a_healthy_model_earns_it(healthy: State, tmp_path: Path) -> None:
    """Four of five layers by their weights; the first has no norm before it."""
    torch.save(healthy, tmp_path / "model.pt")
    (model,) = scan([tmp_path / "model.pt"]).models
    certificate = certificate_of(model.layers)
    assert certificate.earned
    (group,) = certificate.vouched
    assert group.layers == ("4", "7", "10", "13")
    assert "explain" in group.why


@pytest.mark.parametrize(
    ("folded", "said"),
    [
        ([""], "1 batch norm was folded into the weights before: its"),
        (["", ""], "2 batch norms were folded into the weights before: their"),
        (["a.bn", ""], "2 batch norms were folded into the weights before (a.bn): their"),
    ],
)
def test_folded_norms_of_which_an_exporter_keeps_no_name(folded: list[str], said: str) -> None:
    """No module is named that the file does not name."""
    anatomy = Anatomy(
        where="",
        layers=(),
        has_modules=True,
        exported=True,
        folded=tuple((path, None) for path in folded),
    )
    (note,) = folding(anatomy)
    assert note.startswith(said)


@pytest.mark.parametrize(("untold", "earned"), [(0, True), (5, True), (9, False)])
def test_layer_norms_vouch_for_no_batch_norm(
    healthy: State, tmp_path: Path, untold: int, *, earned: bool
) -> None:
    """What stores nothing cannot go stale, but says nothing of norms that store something."""
    torch.save(healthy, tmp_path / "model.pt")
    (model,) = scan([tmp_path / "model.pt"]).models
    first, *others = model.layers
    assert first.standing is Standing.UNTOLD
    empty = replace(others[0], mean=None, variance=None, features=512, why="nothing stored")
    tail = [replace(empty, path=f"tail.{number}") for number in range(9)]
    more = [replace(first, path=f"other.{number}") for number in range(untold)]
    certificate = certificate_of([*model.layers, *more, *tail])
    assert certificate.share(certificate.vouched) > 0.8
    assert certificate.earned is earned
    assert certificate_of(tail).earned


FED = Fed(
    "val.npz", real=True, guessed=False, samples=256, shapes="3x8x8", batch_size=32,
    batch_size_given=False, labelled=True, device="cpu", dtype="float32",
)  # fmt: skip


class _Fails(nn.Module):
    """A network whose forward does not work."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Not to be had."""
        raise RuntimeError("no such thing")


def test_no_mark_where_the_run_that_was_asked_for_failed(healthy: State) -> None:
    """The file alone would earn it; the first line says that the run is missing."""
    net = conv_net(nn.ReLU(), blocks=BLOCKS)
    net.load_state_dict(healthy)
    report = scan_object(_Fails(net), data=torch.zeros(64, 3, 8, 8))
    assert report.errors
    (model,) = report.models
    assert certificate_of(model.layers).earned
    assert not certificate_for(model).earned
    lines = text_of(report, TextStyle(width=100)).splitlines()
    assert any(line.startswith("? The run failed") for line in lines[:4])
    assert not any("only a run" in line for line in lines)
    assert json.loads(render_json(report))["models"][0]["certificate"]["earned"] is False
    assert "✅" not in render_markdown(report)


@pytest.mark.parametrize(
    ("right", "title", "blames"),
    [
        (0.97, "on your data (accuracy 97 %)", False),
        (0.56, "(accuracy 56 %)", False),
        (0.32, "Nothing wrong with the norms, yet 68 % of the answers are wrong", True),
    ],
)
def test_a_mark_for_norms_is_none_for_answers(
    healthy: State, tmp_path: Path, right: float, title: str, blames: bool
) -> None:
    """Statistics that fit the data stand beside the accuracy, whatever it is."""
    torch.save(healthy, tmp_path / "model.pt")
    (model,) = scan([tmp_path / "model.pt"]).models
    drifts = tuple(DriftSummary(n.path, 0.0, 1.0, 0.0, None) for n in model.layers)
    run = RunSummary(
        fed=FED, allclose=True,
        largest_difference=0.0, mode_dependent=True, regimes=(), noise=(), drifts=drifts,
        forwards=9, residual=0.0, notes=(), verdict="none", words="Accuracy is what it is.",
        right=right, chance=0.1,
    )  # fmt: skip
    said = reading(replace(model, run=run))
    assert said.earned
    assert title in said.title
    assert ("look at the weights" in said.text) is blames


@pytest.mark.parametrize(
    "change", [{"rules": ("NC504",)}, {"standing": Standing.ACCUSED}, {"why": "x"}]
)
def test_other_lines_of_layers_have_the_certificate_that_is_theirs(
    change: dict[str, object], healthy: State, tmp_path: Path
) -> None:
    """Whether or not the one of before is kept: what was worked out is what would be."""
    torch.save(healthy, tmp_path / "m.pt")
    model = scan([str(tmp_path / "m.pt")], Examination(), Policy()).models[0]
    before = certificate_for(model)
    first, *rest = model.layers
    other = with_layers(model, (replace(first, **change), *rest))  # type: ignore[arg-type]
    assert certificate_for(other) == certificate_of(other.layers)
    assert (certificate_for(other) is before) == ("rules" in change)


def test_rules_left_out_are_counted(healthy: State, tmp_path: Path) -> None:
    """With one rule nobody vouches for statistics, and the report says how many ran."""
    torch.save(healthy, tmp_path / "model.pt")
    report = scan([tmp_path / "model.pt"], Examination(rules=select(["NC504"], [])))
    text = " ".join(text_of(report, TextStyle()).split())
    assert "1 of " in text
    assert "rules ran" in text
    assert "on statistics left out" in text
    assert "✓" not in text


def test_many_models_are_not_called_well_for_being_silent(healthy: State, tmp_path: Path) -> None:
    """The summary of many counts those that too little can be told of."""
    for number in range(25):
        state = {k: v for k, v in healthy.items() if number or "running" not in k}
        torch.save(state, tmp_path / f"{number:02}.pt")
    text = text_of(scan([tmp_path]), TextStyle())
    assert "Nothing found in 25 models" in text
    assert "24 vouched for, 1 of which too little can be told" in text


@pytest.mark.parametrize("named", ["bn", "layer_norm"])
def test_a_norm_without_statistics_is_not_called_what_names_do_not_tell(
    tmp_path: Path, named: str
) -> None:
    """Between linear layers, by a plain dict: a batch norm that lost its buffers looks the same."""
    state = {
        "fc.weight": torch.randn(6, 4),
        f"{named if named != 'bn' else '1'}.weight": torch.rand(6),
        f"{named if named != 'bn' else '1'}.bias": torch.rand(6),
        "out.weight": torch.randn(3, 6),
    }
    torch.save(state, tmp_path / "model.pt")
    (model,) = scan([tmp_path / "model.pt"]).models
    assert certificate_of(model.layers).earned is (named == "layer_norm")
    assert ("BatchNorm" in model.layers[0].kind) is (named == "bn")


@pytest.mark.parametrize("whole", [False, True])
def test_where_nothing_can_be_told_the_next_step_is(tmp_path: Path, whole: bool) -> None:
    """One norm that no other feeds: a run tells, for which a state dict needs its code."""
    model = settle(nn.Sequential(nn.Linear(9, 16), nn.BatchNorm1d(16), nn.ReLU()), 9)
    torch.save(model if whole else model.state_dict(), tmp_path / "model.pt")
    text = " ".join(text_of(scan([tmp_path / "model.pt"]), TextStyle()).split())
    assert "? Nothing found" in text
    assert "A run on data like its training data can tell" in text
    assert ("--model for its code" in text) is not whole
    some = scan([tmp_path / "model.pt"], Examination(rules=select(["NC504"], [])))
    assert "A run on data" not in text_of(some, TextStyle())


def test_a_model_that_nobody_trained_is_said_to_be_that(tmp_path: Path) -> None:
    torch.save(conv_net(nn.ReLU(), blocks=BLOCKS).state_dict(), tmp_path / "made.pt")
    text = text_of(scan([tmp_path / "made.pt"]), TextStyle())
    assert "? Nothing to judge yet: these norms were never trained or run" in text
    assert "A run on data" not in text


def test_norms_as_created_beside_trained_ones_are_not_all_there_is(tmp_path: Path) -> None:
    """One was trained, of which nothing can be told: the first line is not of the other."""
    trained = settle(nn.Sequential(nn.Linear(9, 16), nn.BatchNorm1d(16)), 9)
    state = {f"new.{key}": value for key, value in nn.BatchNorm1d(8).state_dict().items()}
    torch.save({**trained.state_dict(), **state}, tmp_path / "model.pt")
    text = text_of(scan([tmp_path / "model.pt"]), TextStyle())
    assert "as created" in text
    assert "Nothing to judge yet" not in text
