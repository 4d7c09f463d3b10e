"""``fix --without-data``: what is lost comes back in part, what is not is left alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import normcheck
from normcheck import NormcheckError
from normcheck.cli.flags.run_words import requested
from normcheck.config.flags.running_flags import RunFlags
from normcheck.findings import Finding
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.live.fields.smooth_fields import Smoothness, smooth_fields
from normcheck.norms.find_norms import anatomy_of
from normcheck.repair.emergency import on_fields, permission
from normcheck.repair.emergency.on_fields import estimated_on_fields
from normcheck.repair.emergency.permission import Accused, accused_layers
from normcheck.repair.repair_request import Fixing
from normcheck.repair.repair_result import Repair
from normcheck.rules import catalogue
from sample_models.data import load
from sample_models.networks import DigitsNet, DigitsTransformer, deep_digits, mlp_batchnorm
from tests.conftest import SAMPLES
from tests.repair.files import HEALTHY, LOST, TRAINED_IN_EVAL, small, trained_with_adam

pytestmark = [pytest.mark.slow, pytest.mark.kernels]
SHAPE = "1x8x8"


def repaired(path: Path, output: Path, **more: object) -> Repair:
    """An emergency repair of the sample network; the file itself stays bit for bit as it was."""
    before = path.read_bytes()
    words: dict[str, object] = {"model": DigitsNet, "without_data": True, "input_shape": SHAPE}
    try:
        return normcheck.fix(path, output, **(words | more))  # type: ignore[arg-type]
    finally:
        assert path.read_bytes() == before


def refusal(path: Path, folder: Path, **more: object) -> NormcheckError:
    """Why nothing is done, with a hint; and nothing is written."""
    with pytest.raises(NormcheckError) as raised:
        repaired(path, folder / "fixed.pt", **more)
    assert not (folder / "fixed.pt").exists()
    assert raised.value.hint
    return raised.value


def accuracy(state: dict[str, Tensor]) -> float:
    """On digits that neither training nor repair saw."""
    _, holdout = load()
    model = DigitsNet()
    model.load_state_dict(state)
    with torch.no_grad():
        right = model.eval()(holdout.inputs["images"]).argmax(1) == holdout.labels
    return float(right.double().mean())


def state_of(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(path, weights_only=True)
    return state


def lost_behind_first() -> dict[str, Tensor]:
    """The healthy network with the statistics of its first norm only."""
    healthy, lost = state_of(HEALTHY), state_of(LOST)
    return {n: healthy[n] if n.startswith("stem") else t for n, t in lost.items()}


@pytest.mark.parametrize("name", ["statistics-lost", "foreign-statistics", "nan-statistics"])
def test_most_of_the_accuracy_comes_back(name: str, tmp_path: Path) -> None:
    """With room: 0.85 to 0.95 of what is lost, on this network."""
    path, output = SAMPLES / f"{name}.pt", tmp_path / "fixed.pt"
    result = repaired(path, output)
    assert result.written is not None
    broken, best = accuracy(state_of(path)), accuracy(state_of(HEALTHY))
    assert accuracy(state_of(output)) > broken + 0.7 * (best - broken)
    found = result.models[0].estimated
    assert found is not None
    assert found.emergency is not None
    assert found.proof.after.flips is not None
    assert found.proof.after.flips > 0.5


def test_the_first_norm_tells_the_field(tmp_path: Path) -> None:
    """Where it is intact it stays, and the fields are fitted to it."""
    path, output = tmp_path / "part.pt", tmp_path / "fixed.pt"
    torch.save(lost_behind_first(), path)
    result = repaired(path, output)
    found = result.models[0].estimated
    assert found is not None
    assert found.emergency is not None
    assert found.emergency.fitted_to == "stem.norm"
    assert "stem.norm" in found.emergency.kept
    assert "stem.norm" not in {layer.path for layer in found.layers}
    new, old = state_of(output), state_of(path)
    assert all(torch.equal(new[n], t) for n, t in old.items() if ".running_" not in n)
    assert torch.equal(new["stem.norm.running_var"], old["stem.norm.running_var"])
    broken, best = accuracy(old), accuracy(state_of(HEALTHY))
    assert accuracy(new) > broken + 0.75 * (best - broken)


def test_a_guessed_size_is_said(tmp_path: Path) -> None:
    """With what it was guessed from; a size that was given is no guess."""
    given = repaired(LOST, tmp_path / "given.pt", force=True)
    guessed = repaired(LOST, tmp_path / "guessed.pt", input_shape=None, force=True)
    said = [result.models[0].estimated for result in (given, guessed)]
    assert [found.emergency.guessed_from for found in said if found and found.emergency] == [
        None, "the first convolution, 3x3 with stride 1 on one channel, as of small grey images",
    ]  # fmt: skip
    text = " ".join(str(guessed).split())
    assert "Their size, 1x28x28, is a guess from the first convolution" in text
    assert "--input-shape" in text
    assert "is a guess" not in str(given)


def test_a_first_norm_in_other_units_tells_the_units(tmp_path: Path) -> None:
    """Trained on pixels of 0 to 255, say: the field has their scale."""
    path, output = tmp_path / "part.pt", tmp_path / "fixed.pt"
    state = lost_behind_first()
    state["stem.conv.weight"] = state["stem.conv.weight"] / 64
    torch.save(state, path)
    found = repaired(path, output).models[0].estimated
    assert found is not None
    _, holdout = load()
    model = DigitsNet()
    model.load_state_dict(state_of(output))
    with torch.no_grad():
        model.eval()
        moved = model.stem.conv(64 * holdout.inputs["images"])
    # What the repaired norm stores is what 64 times as bright images give it.
    ratio = moved.var((0, 2, 3)) / model.stem.norm.running_var
    assert 0.5 < float(ratio.median()) < 2.0
    assert found.emergency is not None
    assert found.emergency.fitted_to == "stem.norm"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("digits-healthy", "nothing in the file says"),
        ("too-few-batches-mild", "only mildly off"),
        ("too-few-batches", "only mildly off"),
    ],
)
def test_what_is_only_mildly_off_is_left_alone(name: str, says: str, tmp_path: Path) -> None:
    assert says in refusal(SAMPLES / f"{name}.pt", tmp_path).message


def test_a_healthier_copy_is_named(tmp_path: Path) -> None:
    """An average beside the lost one, say; one that is as bad is none."""
    path = tmp_path / "two.pt"
    torch.save({"model": state_of(LOST), "ema": state_of(HEALTHY)}, path)
    assert "a healthier copy of the model at 'ema'" in refusal(path, tmp_path, at="model").message
    torch.save({"model": state_of(LOST), "ema": state_of(LOST)}, path)
    assert repaired(path, tmp_path / "fixed.pt", at="model").written is not None


def test_weights_that_may_have_been_trained_so_are_not_touched(tmp_path: Path) -> None:
    """Statistics of 0 and 1 that were never lost read the same in the file."""
    result = repaired(TRAINED_IN_EVAL, tmp_path / "fixed.pt")
    assert result.refused
    assert "trained with 0 and 1" in result.models[0].objections[0]
    assert not (tmp_path / "fixed.pt").exists()
    assert repaired(TRAINED_IN_EVAL, tmp_path / "fixed.pt", force=True).written is not None


def test_the_optimizer_that_tells_decides(tmp_path: Path) -> None:
    """Weights that learned with 0 and 1 by the optimizer's word: no repair, not by force either."""
    path = trained_with_adam(tmp_path / "training.pt", training=False)
    error = refusal(path, tmp_path, model=small, force=True)
    assert "trained in eval mode throughout" in error.message
    assert "model.train()" in error.hint


@pytest.mark.parametrize(
    ("name", "model", "says"),
    [
        ("mlp-never-updated", mlp_batchnorm, "no image"),
        ("digits-transformer", DigitsTransformer, "no norm with running statistics"),
    ],
)
def test_other_input_than_images_is_refused(
    name: str, model: object, says: str, tmp_path: Path
) -> None:
    error = refusal(SAMPLES / f"{name}.pt", tmp_path, model=model, input_shape=None)
    assert says in error.message


class Flat(nn.Module):
    """Takes images, and convolves nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layers(x)
        return found


def test_linear_layers_on_images_are_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Flat()
    nn.init.normal_(model.layers[2].weight)
    nn.init.normal_(model.layers[2].bias)
    torch.save(model.state_dict(), tmp_path / "flat.pt")
    error = refusal(tmp_path / "flat.pt", tmp_path, model=Flat)
    assert "behind no convolution" in error.message


def test_few_changed_decisions_are_mild() -> None:
    """Unlike the weights by the file's word, and yet hardly any decision depends on it."""
    checkpoint = read_checkpoint(HEALTHY)
    (saved,) = checkpoint.models
    paths = frozenset(p.removesuffix(".running_var") for p in saved.tensors if "running_var" in p)
    asked = requested(RunFlags(model="sample_models.networks:DigitsNet", input_shape=(SHAPE,)))
    how = Fixing("", running=asked, without_data=True)
    foreign = Accused(
        paths - {"stem.norm"}, frozenset(), frozenset(), frozenset(), ("unlike the weights",),
        lost=False, foreign=True, untold=False,
    )  # fmt: skip
    with pytest.raises(NormcheckError, match="of the decisions on random images") as raised:
        estimated_on_fields(checkpoint, saved, how, foreign)
    assert "--data" in str(raised.value.hint)
    # What is gone is gone, however few decisions depend on it.
    lost = replace(foreign, lost=True)
    assert estimated_on_fields(checkpoint, saved, how, lost).changes
    checkpoint.close()


@pytest.mark.parametrize(
    ("name", "value"), [("running_var", -1.0), ("running_var", np.nan), ("running_mean", np.inf)]
)
def test_channels_that_can_be_stay(name: str, value: float, tmp_path: Path) -> None:
    """Of a layer in which one channel is wrong, that one is replaced; what is sound stays."""
    state, path, output = state_of(HEALTHY), tmp_path / "part.pt", tmp_path / "fixed.pt"
    state[f"last.norm.{name}"][2] = value
    torch.save(state, path)
    result = repaired(path, output)
    found = result.models[0].estimated
    assert found is not None
    assert [layer.path for layer in found.layers] == ["last.norm"]
    assert "Of last.norm only the channels are replaced" in " ".join(str(result).split())
    new, healthy = state_of(output), state_of(HEALTHY)
    for kind in ("running_mean", "running_var"):
        key = f"last.norm.{kind}"
        assert bool(new[key].isfinite().all())
        moved = new[key] != healthy[key]
        assert not moved[torch.arange(len(moved)) != 2].any()
    assert float(new["last.norm.running_var"][2]) >= 0
    assert accuracy(new) > accuracy(healthy) - 0.02


def accused_by(discriminator: str) -> Finding:
    layer = next(iter(anatomy_of(read_checkpoint(HEALTHY).models[0]).layers))
    return catalogue.find("NC108").finding(
        layers=[layer], title="x", detail="x", consequence="x", fix="x",
        discriminator=discriminator,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("by", "allowed"),
    [
        ("small variances", False), ("large variances, small variances", False),
        ("shift", True), ("shift, small variances", True), ("unrelated", True),
    ],
)  # fmt: skip
def test_sizes_of_variances_alone_are_no_reason(
    by: str, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How smooth images are decides them; means that are off are a reason."""
    monkeypatch.setattr(permission, "statistics_findings", lambda *_: [accused_by(by)])
    checkpoint = read_checkpoint(HEALTHY)
    (saved,) = checkpoint.models
    if allowed:
        assert accused_layers(checkpoint, saved).layers
    else:
        with pytest.raises(NormcheckError, match="only the size of the variances") as raised:
            accused_layers(checkpoint, saved)
        assert raised.value.hint
    checkpoint.close()


def test_where_few_decisions_change_it_takes_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stored statistics of all norms may do as well then; for one layer fewer are enough."""
    monkeypatch.setattr(on_fields, "AS_HEALTHY", (1.01, 1.01))
    result = repaired(LOST, tmp_path / "fixed.pt")
    assert result.refused
    assert "may do as well" in result.models[0].objections[0]
    assert not (tmp_path / "fixed.pt").exists()
    assert repaired(LOST, tmp_path / "fixed.pt", force=True).written is not None
    healthy, lost = state_of(HEALTHY), state_of(LOST)
    one = {n: lost[n] if n.startswith("last.norm.") else t for n, t in healthy.items()}
    torch.save(one, tmp_path / "one.pt")
    assert repaired(tmp_path / "one.pt", tmp_path / "one-fixed.pt").written is not None
    monkeypatch.setattr(on_fields, "OF_FEW", 1.01)
    assert (
        "may do as well" in repaired(tmp_path / "one.pt", tmp_path / "x.pt").models[0].objections[0]
    )
    # Statistics that are no numbers do not do as well, however few decisions change.
    one["last.norm.running_var"] = torch.full_like(one["last.norm.running_var"], np.nan)
    torch.save(one, tmp_path / "nan.pt")
    assert repaired(tmp_path / "nan.pt", tmp_path / "nan-fixed.pt").written is not None


def test_a_layer_that_hardly_matters_is_left(tmp_path: Path) -> None:
    """Its γ are next to nothing: whatever its statistics are, the answers are the same."""
    state, lost = state_of(HEALTHY), state_of(LOST)
    state |= {n: t for n, t in lost.items() if n.startswith("block.second.norm.run")}
    state["block.second.norm.num_batches_tracked"] *= 0
    state["block.second.norm.weight"] *= 0.02
    torch.save(state, tmp_path / "one.pt")
    result = repaired(tmp_path / "one.pt", tmp_path / "fixed.pt")
    assert result.refused
    assert "may do as well" in result.models[0].objections[0]
    assert repaired(tmp_path / "one.pt", tmp_path / "fixed.pt", force=True).written is not None


class PreActivation(nn.Module):
    """Three blocks with norms in front; of the first norm of each no weights tell."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 24, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.last, self.out = nn.BatchNorm2d(24), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        found: Tensor = self.out(self.last(x).relu().mean((2, 3)))
        return found


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(24)
        self.conv1 = nn.Conv2d(24, 24, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(24)
        self.conv2 = nn.Conv2d(24, 24, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = x + self.conv2(self.bn2(self.conv1(self.bn1(x).relu())).relu())
        return found


@pytest.mark.parametrize(("named", "all_of_them"), [(3, True), (2, True), (1, False)])
def test_norms_that_no_weights_tell_of_go_with_the_others(
    named: int, *, all_of_them: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of seven norms weights predict three: where most of these are foreign, all may be."""
    torch.manual_seed(0)
    model = PreActivation()
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
        norm.momentum = None
    with torch.no_grad():
        model(torch.randn(64, 1, 8, 8))
    torch.save(model.state_dict(), tmp_path / "m.pt")
    checkpoint = read_checkpoint(tmp_path / "m.pt")
    (saved,) = checkpoint.models
    layers = {layer.path: layer for layer in anatomy_of(saved).layers}
    told = [f"blocks.{n}.bn2" for n in range(3)]
    finding = replace(accused_by("unrelated"), layers=tuple(told[:named]))
    monkeypatch.setattr(permission, "statistics_findings", lambda *_: [finding])
    accused = accused_layers(checkpoint, saved)
    checkpoint.close()
    assert accused.layers == set(told[:named])
    assert accused.doubtful == (layers.keys() - accused.layers if all_of_them else set())


@pytest.mark.parametrize("more", [{"data": "x.npz"}, {"unwarm": True}, {"holdout": "x.npz"}])
def test_better_ways_are_not_mixed_with_it(more: dict[str, object], tmp_path: Path) -> None:
    refusal(LOST, tmp_path, **more)


def test_deep_networks_trained_in_eval_are_not_touched(tmp_path: Path) -> None:
    """At chance as they are: neither is right, and no estimate makes it so."""
    path = SAMPLES / "trained-in-eval-mode.pt"
    assert repaired(path, tmp_path / "fixed.pt", model=deep_digits).refused


@pytest.mark.parametrize("neighbours", [0.0, 0.7, 0.95])
def test_fields_are_as_smooth_as_they_say(neighbours: float) -> None:
    """Measured over many, in both directions and between channels."""
    images = smooth_fields(2000, (3, 12, 10), Smoothness(neighbours, 0.5), 3).double()
    assert torch.equal(images[:1000], -images[1000:])

    def together(a: Tensor, b: Tensor) -> float:
        return float((a * b).mean())

    assert together(images, images) == pytest.approx(1.0, abs=1e-4)
    assert together(images[..., 1:], images[..., :-1]) == pytest.approx(neighbours, abs=0.05)
    assert together(images[..., 3:, :], images[..., :-3, :]) == pytest.approx(
        neighbours**3, abs=0.06
    )
    assert together(images[:, 0], images[:, 2]) == pytest.approx(0.5, abs=0.06)
    assert np.ptp(images.square().mean((0, 1)).numpy()) < 0.3


def test_fields_leave_the_generator_alone() -> None:
    before = torch.random.get_rng_state()
    smooth_fields(3, (1, 5, 7), Smoothness(0.5, 0.5), 1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_what_the_fields_vouch_for_stays() -> None:
    """Named by the rule on weights alone, with means as random images give them."""
    checkpoint = read_checkpoint(HEALTHY)
    (saved,) = checkpoint.models
    paths = frozenset(p.removesuffix(".running_var") for p in saved.tensors if "running_var" in p)
    behind = paths - {"stem.norm"}
    asked = requested(RunFlags(model="sample_models.networks:DigitsNet", input_shape=(SHAPE,)))
    how = Fixing("", running=asked, without_data=True)
    foreign = Accused(
        behind, frozenset(), behind, frozenset(), ("unlike the weights",),
        lost=False, foreign=True, untold=False,
    )  # fmt: skip
    with pytest.raises(NormcheckError, match="the means that they have stored") as raised:
        estimated_on_fields(checkpoint, saved, how, foreign)
    assert "--data" in str(raised.value.hint)
    # One of them is lost as well, by what the file says exactly: that one alone is replaced.
    lost = replace(foreign, unlike=behind - {"last.norm"}, lost=True)
    found = estimated_on_fields(checkpoint, saved, how, lost).estimated
    checkpoint.close()
    assert found is not None
    assert found.emergency is not None
    assert [layer.path for layer in found.layers] == ["last.norm"]
    assert set(found.emergency.vouched) == behind - {"last.norm"}
