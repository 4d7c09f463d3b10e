"""Stored statistics against real data: what is accused, what is not, and on which evidence.

The networks are committed: no verdict here hangs on the trajectory of one training, which differs
from processor to processor. Rates over many trainings are in ``test_verdict_rates.py``.
"""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from normcheck import Examination, Report, scan
from normcheck.findings import Finding, Severity
from normcheck.live.run_request import Feeding, Running
from normcheck.report.healthy_reading import reading
from normcheck.rules.catalogue import RULES, select
from normcheck.rules.rule import Rule
from sample_models import build
from sample_models.data import Part, load
from sample_models.networks import DigitsNet
from tests.live.probes.networks.build import FOLDER, SAMPLES, norms

pytestmark = [pytest.mark.slow, pytest.mark.kernels]

_ON_DATA = {"NC401", "NC402", "NC403", "NC404", "NC405", "NC406"}


@pytest.fixture(scope="session")
def digits() -> tuple[Part, Part]:
    """Training and held-out digits."""
    torch.set_num_threads(1)
    return load()


def network(path: Path) -> nn.Module:
    """The digits network with committed weights."""
    model = DigitsNet().eval()
    model.load_state_dict(torch.load(path, weights_only=True))
    return model


@pytest.fixture(scope="session")
def trained() -> nn.Module:
    """A healthy network; tests change copies of it."""
    return network(SAMPLES / "digits-healthy.pt")


def rows(part: Part, count: int, form: str = "images") -> tuple[Tensor, Tensor]:
    """So many held-out digits, evenly over all of them."""
    index = torch.linspace(0, len(part.labels) - 1, count).long()
    return part.inputs[form][index], part.labels[index]  # type: ignore[index]


def judged(
    model: nn.Module,
    images: Tensor,
    labels: Tensor | None = None,
    rules: tuple[Rule, ...] = RULES,
    **more: int,
) -> Report:
    """The report on a model that is fed this."""
    data = images if labels is None else (images, labels)
    feeding = Feeding(samples=10_000, **more)  # type: ignore[arg-type]
    settings = Examination(rules=rules, running=Running(feeding=feeding))
    report = scan(model.eval(), settings, data=data)
    assert report.errors == ()
    return report


@pytest.mark.parametrize("constant", [False, True])
def test_data_of_one_class_vouch_for_nothing(
    constant: bool, trained: nn.Module, digits: tuple[Part, Part]
) -> None:
    """Neither where the statistics do fit, nor where no statistics could change the answer."""
    images, labels = rows(digits[1], len(digits[1].labels))
    threes = labels == 3
    model = copy.deepcopy(trained)
    if constant:
        head = next(m for m in reversed(list(model.modules())) if isinstance(m, nn.Linear))
        nn.init.zeros_(head.weight)
        with torch.no_grad():
            head.bias.copy_(functional.one_hot(torch.tensor(3), 10))
    told = reading(judged(model, images[threes], labels[threes]).models[0])
    assert told.title == "Nothing wrong in the file; data of one class leave the statistics open"
    assert not told.earned
    assert "as mixed as the training's" in told.text
    assert reading(judged(trained, images, labels).models[0]).earned


def on_data(report: Report) -> dict[str, Severity]:
    """What the rules on data said."""
    return {f.rule: f.severity for f in report.findings if f.rule in _ON_DATA}


def with_residue(model: nn.Module, residue: float) -> nn.Module:
    """A copy whose statistics hold this share of the initial 0 and 1, and no count of it."""
    changed = copy.deepcopy(model)
    for norm in norms(changed):
        norm.running_mean.mul_(1 - residue)
        norm.running_var.mul_(1 - residue).add_(residue)
    return changed


@pytest.mark.parametrize("count", [16, 64, 256])
def test_a_healthy_model_is_silent(
    digits: tuple[Part, Part], trained: nn.Module, count: int
) -> None:
    """Neither few nor many samples, with labels or without, make anything of it."""
    images, labels = rows(digits[1], count)
    assert on_data(judged(trained, images)) == {}
    assert on_data(judged(trained, images, labels)) == {}


def test_three_points_of_accuracy_show_in_unlabelled_images(
    digits: tuple[Part, Part], trained: nn.Module
) -> None:
    """4 % of the initial value left cost three points or four, and are named."""
    sick = with_residue(trained, 0.04)
    images, labels = digits[1].inputs["images"], digits[1].labels
    with torch.no_grad():
        right = [(m(images).argmax(1) == labels).double().mean() for m in (trained, sick.eval())]
    assert 0.02 < right[0] - right[1] < 0.05
    said = on_data(judged(sick, rows(digits[1], 256)[0]))
    assert said == {"NC401": Severity.WARNING}


def test_a_larger_drop_is_proven_by_labels(digits: tuple[Part, Part], trained: nn.Module) -> None:
    """With labels the same fault is an error, and names all layers and what they cost."""
    sick, data = with_residue(trained, 0.1), rows(digits[1], 256)
    report = judged(sick, *data, rules=select(["NC4"], []))
    assert on_data(report) == {"NC401": Severity.ERROR}
    (finding,) = [f for f in report.findings if f.rule == "NC401"]
    assert len(finding.layers) >= 5
    assert "accuracy is" in finding.detail
    # Weights tell it of most of them as well: one cause is one finding.
    (finding,) = [f for f in judged(sick, *data).findings if f.severity is Severity.ERROR]
    assert finding.rule == "NC108"
    assert len(finding.layers) >= 4
    assert "accuracy is" in finding.detail


def test_the_layer_to_blame_is_ranked_first(digits: tuple[Part, Part], trained: nn.Module) -> None:
    """One layer with the statistics of another network is named first."""
    sick = copy.deepcopy(trained)
    sick.depthwise.norm.running_mean.add_(sick.depthwise.norm.running_var.sqrt())
    report = judged(sick, *rows(digits[1], 128))
    (finding,) = [f for f in report.findings if f.rule == "NC401"]
    assert finding.layers == ("depthwise.norm",)
    drifts = report.models[0].run.drifts  # type: ignore[union-attr]
    assert max(drifts, key=lambda d: d.closes or 0).path == "depthwise.norm"


def test_averaged_weights_with_early_statistics(digits: tuple[Part, Part]) -> None:
    """An average of weights whose buffers were not updated is accused without labels."""
    model = network(SAMPLES / "averaged-without-buffers.pt")
    for norm in norms(model):
        norm.num_batches_tracked.fill_(10_000)  # so that no rule on the file sees it
    said = on_data(judged(model, rows(digits[1], 64)[0]))
    assert said.get("NC401") is Severity.WARNING


def test_class_sorted_training(digits: tuple[Part, Part], trained: nn.Module) -> None:
    """Statistics of the last class that a sorted loader gave do not fit all classes."""
    part = digits[0]
    model = copy.deepcopy(trained).train()
    order = part.labels.argsort(stable=True)
    with torch.no_grad():
        for chosen in order.split(32):
            if len(chosen) == 32:
                model(part.inputs["images"][chosen])
    report = judged(model, rows(digits[1], 256)[0])
    (finding,) = [f for f in report.findings if f.rule == "NC401"]
    assert "last.norm" in finding.layers
    (last,) = [d for d in report.models[0].run.drifts if d.path == "last.norm"]  # type: ignore[union-attr]
    assert last.off == 1
    assert last.factor > 1.5  # batches of one class vary less


def test_scaled_input_is_one_finding_on_the_first_norm(
    digits: tuple[Part, Part], trained: nn.Module
) -> None:
    """Pixels of another range accuse the input and no layer's statistics."""
    images, labels = rows(digits[1], 64)
    for changed in (4 * images, images + 1):
        for data in ((changed,), (changed, labels)):
            report = judged(trained, *data)
            assert set(on_data(report)) == {"NC404"}
            assert on_data(report)["NC404"] is not Severity.INFO
    report = judged(trained, 4 * images)
    (finding,) = [f for f in report.findings if f.rule == "NC404"]
    assert finding.layers == ("stem.norm",)
    assert "as if it had not been divided by 4" in finding.detail


def never_updated(report: Report) -> Finding:
    """What NC101 says, which says it alone."""
    (finding,) = [f for f in report.findings if f.rule == "NC101"]
    assert not {"NC401", "NC406"} & {f.rule for f in report.findings}
    return finding


def test_lost_statistics_are_settled_by_labels(digits: tuple[Part, Part]) -> None:
    """Statistics that re-estimation heals were lost: an error, with the repair."""
    images, labels = rows(digits[1], 256)
    finding = never_updated(judged(network(SAMPLES / "statistics-lost.pt"), images, labels))
    assert finding.severity is Severity.ERROR
    assert "normcheck fix" in finding.fix
    assert "sign test" in finding.detail


def test_trained_in_eval_mode_is_settled_by_labels(digits: tuple[Part, Part]) -> None:
    """A model that predicts all the same: a warning of its own history, and no repair."""
    images, labels = rows(digits[1], 256)
    in_eval = network(SAMPLES / "never-updated-trained-in-eval.pt")
    report = judged(in_eval, images, labels)
    finding = never_updated(report)
    assert finding.severity is Severity.WARNING
    assert "trained in eval mode throughout" in finding.title
    assert "model.train()" in finding.fix
    assert "no repair" in finding.fix
    assert "on purpose" in finding.consequence
    assert "✓ " not in str(report).split("NC101")[0]


def test_without_labels_both_histories_stand(digits: tuple[Part, Part]) -> None:
    """Images alone leave the warning as it was: both readings, each with its fix."""
    in_eval = network(SAMPLES / "never-updated-trained-in-eval.pt")
    finding = never_updated(judged(in_eval, rows(digits[1], 256)[0]))
    assert finding.severity is Severity.WARNING
    assert "model.train()" in finding.fix
    assert "normcheck fix" in finding.fix


def untrained() -> nn.Module:
    """γ and β that moved, weights that know nothing: what a deep model is after eval mode."""
    torch.manual_seed(3)
    model = DigitsNet().eval()
    for norm in norms(model):
        norm.weight.data.add_(0.1 * torch.randn_like(norm.weight))
        norm.bias.data.add_(0.1 * torch.randn_like(norm.bias))
    return model


def test_both_at_chance_decide_nothing(digits: tuple[Part, Part]) -> None:
    """As wrong as guessing with these statistics and with others: an error, and no comparison."""
    images, labels = rows(digits[1], 256)
    report = judged(untrained(), images, labels)
    finding = never_updated(report)
    assert finding.severity is Severity.ERROR
    assert "both are at chance" in finding.detail
    assert "guessing gives 1" in finding.detail
    assert "model.train()" in finding.fix
    assert "speaks for" not in str(report)


@pytest.mark.parametrize("with_labels", [False, True])
@pytest.mark.parametrize("name", ["frozen-from-scratch", "fine-tuned-in-eval-mode", "augmented"])
def test_look_alikes_are_not_accused(
    digits: tuple[Part, Part], name: str, with_labels: bool
) -> None:
    """Moments far from the data's, and weights that were trained with them."""
    form = "dim images" if name.startswith("fine") else "images"
    images, labels = rows(digits[1], 256, form)
    said = on_data(judged(network(FOLDER / f"{name}.pt"), images, labels if with_labels else None))
    assert all(severity is Severity.INFO for severity in said.values())


def test_an_inverted_input_is_never_a_remark(digits: tuple[Part, Part], trained: nn.Module) -> None:
    """A model that is nearly always wrong gets a warning, whatever explains it."""
    images, labels = rows(digits[1], 256)
    report = judged(trained, -images, labels)
    assert max(s.rank for s in on_data(report).values()) >= Severity.WARNING.rank
    assert "Nothing wrong" not in str(report)


def test_shuffled_labels_are_said(digits: tuple[Part, Part], trained: nn.Module) -> None:
    """Labels of another model: no better than guessing, and not the statistics' fault."""
    images, labels = rows(digits[1], 256)
    report = judged(trained, images, (labels + 1) % 10)
    assert on_data(report) == {"NC406": Severity.WARNING}


def test_one_sided_data_do_not_accuse(digits: tuple[Part, Part], trained: nn.Module) -> None:
    """The first images of a folder sorted by class are of one class, and no evidence."""
    order = digits[1].labels.argsort(stable=True)[:50]
    images, labels = digits[1].inputs["images"][order], digits[1].labels[order]
    for data in ((images,), (images, labels)):
        said = on_data(judged(trained, *data))
        assert all(severity is Severity.INFO for severity in said.values())


def test_noise_given_as_data_does_not_accuse(trained: nn.Module) -> None:
    """On random numbers a healthy model's modes differ as much as a broken one's.

    That the images are of another kind may be said, and nothing louder of its statistics.
    """
    torch.manual_seed(0)
    said = on_data(judged(trained, torch.randn(64, 1, 8, 8)))
    said.pop("NC404", None)
    assert all(severity is Severity.INFO for severity in said.values())


def test_made_up_input_judges_no_statistics(trained: nn.Module) -> None:
    """Without data no rule on data runs, and the report says why."""
    report = scan(build.forgotten(trained), Examination(running=Running()))
    assert on_data(report) == {}
    skipped = {s.rule: s.reason for s in report.skipped}
    assert skipped["NC401"] == "needs your data, the run was fed made-up input"


def test_two_populations(digits: tuple[Part, Part], trained: nn.Module) -> None:
    """Half of the images in another range are two groups; digits are one."""
    images = rows(digits[1], 64)[0].clone()
    images[::2] = images[::2] * 100 + 300
    assert "NC405" in on_data(judged(trained, images))


def test_small_batches_are_a_warning_where_the_size_is_that_of_training(
    digits: tuple[Part, Part], trained: nn.Module
) -> None:
    """At batches of 2 the last norm gets 3 independent values per channel."""
    images, _ = rows(digits[1], 64)
    assert on_data(judged(trained, images, batch_size=2))["NC403"] is Severity.WARNING
    assert "NC403" not in on_data(judged(trained, images, batch_size=32))
    noise = judged(trained, images).models[0].run.noise  # type: ignore[union-attr]
    assert [n.batch_size for n in noise] == [1, 2, 4, 8, 16, 32]
    scatter = [n.difference or 0 for n in noise]
    assert scatter == sorted(scatter, reverse=True)


def test_a_gap_that_no_statistic_explains(digits: tuple[Part, Part], trained: nn.Module) -> None:
    """A branch on the mode that ruins eval mode is found by its answers."""

    class Branch(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, images: Tensor) -> Tensor:
            scores = self.inner(images)
            return scores if self.training else scores.roll(1, dims=1)

    said = on_data(judged(Branch(copy.deepcopy(trained)), *rows(digits[1], 128)))
    assert said == {"NC402": Severity.ERROR}


def test_regression_is_judged_by_its_loss(digits: tuple[Part, Part]) -> None:
    """Labels that are numbers give a loss, and a paired test on it."""
    part, holdout = digits
    target = part.inputs["images"].flatten(1)[:, 20:21]
    model = nn.Sequential(DigitsNet(), nn.Linear(10, 1)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for epoch in range(6):
        for chosen in build.batches(len(target), epoch):
            optimizer.zero_grad()
            loss = functional.mse_loss(model(part.inputs["images"][chosen]), target[chosen])
            torch.autograd.backward(loss)
            optimizer.step()
    images, _ = rows(holdout, 128)
    numbers = images.flatten(1)[:, 20:21]
    assert all(s is Severity.INFO for s in on_data(judged(model, images, numbers)).values())
    # Less than the weights alone would show: then the data are not asked for a name.
    sick = with_residue(model, 0.1)
    assert on_data(judged(sick, images, numbers)) == {"NC401": Severity.ERROR}
    assert on_data(judged(sick, images)) == {"NC401": Severity.INFO}


def test_what_fits_in_memory_changes_no_figure(
    digits: tuple[Part, Part], trained: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forwards of all samples, of some, and of a batch each give the same table, and every cell."""
    images, labels = rows(digits[1], 200)
    sick = with_residue(trained, 0.1)
    reports = []
    for most in (1 << 30, 100 * 16 * 64 * 16, 1):
        monkeypatch.setattr("normcheck.live.probes.cost._MOST_BYTES", most)
        reports.append(judged(sick, images, labels).models[0].run)
    wide, some, narrow = reports
    assert wide
    assert some
    assert narrow
    assert wide.forwards < some.forwards < narrow.forwards
    assert wide.forwards <= 79
    for other in (some, narrow):
        assert other.verdict == wide.verdict
        for ours, theirs in zip(wide.regimes, other.regimes, strict=True):
            assert theirs.difference == pytest.approx(ours.difference, rel=0.05)
            assert theirs.accuracy == pytest.approx(ours.accuracy, abs=0.02)
            assert theirs.flips == pytest.approx(ours.flips, abs=0.02)
        for ours, theirs in zip(wide.noise, other.noise, strict=True):
            assert theirs.difference == pytest.approx(ours.difference, rel=0.02)


def test_a_model_that_is_inspected_stays_as_it_was(
    digits: tuple[Part, Part], trained: nn.Module
) -> None:
    """Bit for bit, modes and counts included."""
    model = copy.deepcopy(trained).train()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    scan(model, data=rows(digits[1], 32))
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(
    digits: tuple[Part, Part], trained: nn.Module, dtype: torch.dtype
) -> None:
    """Half and double precision models are run in their own, and a healthy one is silent."""
    images, labels = rows(digits[1], 64)
    report = judged(copy.deepcopy(trained).to(dtype), images, labels)
    assert report.models[0].run.fed.dtype == str(dtype).removeprefix("torch.")  # type: ignore[union-attr]
    assert on_data(report) == {}


def test_autocast(digits: tuple[Part, Part], trained: nn.Module) -> None:
    """A model that runs in mixed precision is judged in mixed precision."""
    settings = Examination(running=Running(autocast="bfloat16"))
    report = scan(trained.eval(), settings, data=rows(digits[1], 64))
    assert report.errors == ()
    assert report.models[0].run.fed.dtype == "bfloat16 autocast"  # type: ignore[union-attr]
    assert on_data(report) == {}


def test_train_mode_does_not_disturb_what_is_measured_after_it(
    digits: tuple[Part, Part], trained: nn.Module
) -> None:
    """Blame is measured against the stored statistics, not those that a train forward left."""
    sick = copy.deepcopy(trained)
    sick.last.norm.running_var.mul_(9)
    images, _ = rows(digits[1], 64)
    drifts = judged(sick, images).models[0].run.drifts  # type: ignore[union-attr]
    closes = {drift.path: drift.closes or 0 for drift in drifts}
    assert closes["last.norm"] > 0.8
    assert all(share < 0.2 for path, share in closes.items() if path != "last.norm")
