"""What would make a model worse, or may, is not written, and the reason is said."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from normcheck.errors import NormcheckError
from normcheck.runs.fix import fix
from sample_models.data import load
from sample_models.networks import DigitsNet
from tests.repair.files import (
    DATA,
    HEALTHY,
    LOST,
    TRAINED_IN_EVAL,
    small,
    trained_with_adam,
    wanted,
)

pytestmark = pytest.mark.slow


def accuracy(path: Path) -> float:
    """On 600 digits that neither training nor repair saw."""
    _, holdout = load()
    model = DigitsNet()
    model.load_state_dict(torch.load(path, weights_only=True))
    with torch.no_grad():
        right = model.eval()(holdout.inputs["images"]).argmax(1) == holdout.labels
    return float(right.double().mean())


@pytest.mark.parametrize(
    "name",
    ["statistics-lost", "too-few-batches-mild", "foreign-statistics"],
)
def test_healed_as_if_never_broken(name: str, tmp_path: Path, samples: Path) -> None:
    """Training data through the repair: within 0.2 points of the healthy twin on other digits."""
    train, _ = load()
    np.savez(tmp_path / "train.npz", images=train.inputs["images"], labels=train.labels)
    output = tmp_path / "fixed.pt"
    result = fix(samples / f"{name}.pt", wanted(output, data=str(tmp_path / "train.npz")))
    assert not result.refused
    assert accuracy(output) >= accuracy(HEALTHY) - 0.002
    found = result.models[0].estimated
    assert found is not None
    assert found.residual < 1e-3
    assert found.proof.after.accuracy is not None
    assert found.proof.after.accuracy > 0.97


def test_trained_in_eval_mode_is_refused(tmp_path: Path) -> None:
    """Statistics of 0 and 1 that the weights were fitted to."""
    output = tmp_path / "fixed.pt"
    result = fix(TRAINED_IN_EVAL, wanted(output))
    assert result.refused
    assert "trained with the stored statistics, 0 and 1" in result.models[0].objections[0]
    assert list(tmp_path.iterdir()) == []
    forced = fix(TRAINED_IN_EVAL, wanted(output, force=True))
    assert forced.written is not None
    assert forced.models[0].objections
    assert accuracy(output) < accuracy(TRAINED_IN_EVAL) - 0.1


def without_labels(folder: Path, count: int = 256) -> str:
    """The sample images alone."""
    path = folder / "images.npz"
    np.savez(path, images=np.load(DATA)["images"][:count])
    return str(path)


def test_trained_in_eval_mode_is_refused_without_labels(tmp_path: Path) -> None:
    """The clearness of decisions tells, or nothing does; both are no."""
    data = without_labels(tmp_path)
    assert fix(TRAINED_IN_EVAL, wanted(tmp_path / "fixed.pt", data=data)).refused


def test_what_the_file_shows_of_its_training_is_said_without_labels(tmp_path: Path) -> None:
    """An optimizer that saw eval mode: labels are asked for where nothing tells, and this does."""
    said = {}
    for training in (False, True):
        path = trained_with_adam(tmp_path / f"{training}.pt", training=training)
        data = without_labels(tmp_path)
        how = wanted(tmp_path / f"{training}-fixed.pt", model=small, data=data)
        said[training] = fix(path, how).models[0].objections
    assert said[False][0].startswith("2 batch norm layers were trained in eval mode throughout")
    assert not any("as the file shows" in objection for objection in said[True])


def test_lost_statistics_are_seen_without_labels(tmp_path: Path) -> None:
    data = without_labels(tmp_path)
    assert not fix(LOST, wanted(tmp_path / "fixed.pt", data=data)).refused


def test_regression_without_labels_cannot_be_judged(tmp_path: Path) -> None:
    """Numbers have no clearness: outputs change, and which are right nobody can tell."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 1)
    )
    torch.save(model.eval(), tmp_path / "net.pt")
    x = torch.randn(100, 4) * 3 + 1
    torch.save(x, tmp_path / "x.pt")
    how = wanted(tmp_path / "fixed.pt", model="", trust=True, data=str(tmp_path / "x.pt"))
    result = fix(tmp_path / "net.pt", how)
    assert result.refused
    assert "give data with labels" in result.models[0].objections[0]
    # With labels that the stored statistics predict, the loss says that they are right.
    with torch.no_grad():
        y = model(x) + 0.01
    np.savez(tmp_path / "xy.npz", x=x.numpy(), y=y.numpy())
    how = wanted(tmp_path / "fixed.pt", model="", trust=True, data=str(tmp_path / "xy.npz"))
    assert fix(tmp_path / "net.pt", how).refused


def test_few_samples_are_refused(tmp_path: Path) -> None:
    data = tmp_path / "few.npz"
    digits = np.load(DATA)
    np.savez(data, images=digits["images"][:20], labels=digits["labels"][:20])
    result = fix(LOST, wanted(tmp_path / "fixed.pt", data=str(data)))
    assert any("too few" in reason for reason in result.models[0].objections)
    assert not (tmp_path / "fixed.pt").exists()


def test_nan_in_the_data_is_named(tmp_path: Path) -> None:
    """It equals nothing, itself neither: that is no loader that gives other samples each time."""
    digits = np.load(DATA)
    images = digits["images"][:64].astype(np.float32)
    images[5].flat[0] = np.nan
    np.savez(tmp_path / "nan.npz", images=images, labels=digits["labels"][:64])
    with pytest.raises(NormcheckError, match="not all finite") as caught:
        fix(LOST, wanted(tmp_path / "fixed.pt", data=str(tmp_path / "nan.npz")))
    assert "NaN or infinite values in the data" in caught.value.hint
    assert not (tmp_path / "fixed.pt").exists()


def test_one_class_of_data_does_not_heal(tmp_path: Path) -> None:
    """Data of one class give statistics of one class; other digits judge."""
    train, _ = load()
    zeros = train.labels == 0
    np.savez(
        tmp_path / "zeros.npz", images=train.inputs["images"][zeros], labels=train.labels[zeros]
    )
    how = wanted(tmp_path / "fixed.pt", data=str(tmp_path / "zeros.npz"), holdout=DATA)
    assert fix(HEALTHY, how).refused


def test_a_model_without_running_statistics(tmp_path: Path, samples: Path) -> None:
    how = wanted(tmp_path / "fixed.pt", model="sample_models.networks:DigitsTransformer")
    with pytest.raises(NormcheckError, match="no norm with running statistics"):
        fix(samples / "digits-transformer.pt", how)


def test_several_models_have_to_be_chosen(tmp_path: Path) -> None:
    state = torch.load(LOST, weights_only=True)
    torch.save({"a": state, "b": dict(state)}, tmp_path / "two.pt")
    with pytest.raises(NormcheckError, match="holds 2 models: 'a', 'b'"):
        fix(tmp_path / "two.pt", wanted(tmp_path / "fixed.pt"))
    with pytest.raises(NormcheckError, match="no model at 'c'"):
        fix(tmp_path / "two.pt", wanted(tmp_path / "fixed.pt", places=("c",)))


CHANGES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "larger": (lambda x: 4.6 * x, "not been divided by 4."),
    "as bytes": (lambda x: 255 * x, "not been divided by 2"),
    "brighter": (lambda x: x + 1.5, "had not been taken from it"),
    "inverted": (lambda x: -x, "inverted"),
}


def _changed_data(folder: Path, change: Callable[[np.ndarray], np.ndarray], *, labels: bool) -> str:
    train, _ = load()
    held = {"images": change(train.inputs["images"].numpy()).astype(np.float32)}
    np.savez(folder / "data.npz", **held, **({"labels": train.labels.numpy()} if labels else {}))
    return str(folder / "data.npz")


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_right_statistics_are_not_fitted_to_another_input(
    change: str, labels: bool, tmp_path: Path
) -> None:
    """All norms fit what they were trained on: what is wrong is the preprocessing, not the file."""
    function, words = CHANGES[change]
    data = _changed_data(tmp_path, function, labels=labels)
    result = fix(HEALTHY, wanted(tmp_path / "fixed.pt", data=data))
    assert result.refused
    (said,) = (text for text in result.models[0].objections if "preprocessing" in text)
    assert words in said
    assert not (tmp_path / "fixed.pt").exists()


@pytest.mark.parametrize("change", ["larger", "as bytes", "brighter"])
def test_statistics_that_fit_no_input_are_estimated_for_this_one(
    change: str, tmp_path: Path, samples: Path
) -> None:
    """Those of other weights say nothing of the input; neither does a little more light."""
    data = _changed_data(tmp_path, CHANGES[change][0], labels=True)
    foreign = fix(samples / "foreign-statistics.pt", wanted(tmp_path / "fixed.pt", data=data))
    assert not foreign.refused
    data = _changed_data(tmp_path, lambda x: 1.1 * x, labels=True)
    dimmed = fix(HEALTHY, wanted(tmp_path / "dimmed.pt", data=data))
    assert not any("preprocessing" in text for text in dimmed.models[0].objections)
