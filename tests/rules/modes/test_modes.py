"""NC201, NC202 and NC211: norms in the wrong mode, in a whole saved module."""

import pytest

from normcheck.findings import Confidence, Finding, Severity
from normcheck.norms.layer import NormLayer
from tests.rules.layers import (
    constant,
    evidence,
    frozen_norm,
    judge,
    kind,
    module_norm,
    new_norm,
    only,
    plain_norm,
    values,
)


def in_mode(training: bool, *paths: str, **changes: object) -> list[NormLayer]:
    """Norms of a whole module, all in one mode."""
    return [module_norm(path, training=training, **changes) for path in paths]


def train_mode(*layers: NormLayer, training: bool | None = True, **file: object) -> list[Finding]:
    return judge("NC201", *layers, training=training, **file)


def mixed(*layers: NormLayer, training: bool | None) -> list[Finding]:
    return judge("NC202", *layers, training=training)


def test_train_mode_in_a_file_for_use() -> None:
    """The file holds nothing but the model, in train mode: a warning."""
    found = only(train_mode(*in_mode(True, "bn1", "bn2")))
    assert (found.severity, found.confidence) == (Severity.WARNING, Confidence.MEDIUM)
    assert found.layers == ("bn1", "bn2")
    assert found.title == "the model was saved in train mode, with all 2 batch norm layers"
    assert "holds nothing but the model" in found.detail
    assert evidence(found) == {"layers in train mode": 2.0}


@pytest.mark.parametrize("file", [{"alone": False}, {"optimizer_steps": 100}])
def test_train_mode_in_a_training_checkpoint(file: dict[str, object]) -> None:
    """Beside an epoch or an optimizer train mode is as expected: info."""
    found = only(train_mode(*in_mode(True, "bn"), **file))
    assert (found.severity, found.confidence) == (Severity.INFO, Confidence.HIGH)
    assert "nothing but the model" not in found.detail


def test_train_mode_of_a_new_model() -> None:
    """A model that was never trained is not for use yet: info."""
    layer = module_norm(
        training=True,
        running_mean=constant(0.0),
        running_var=constant(1.0),
        weight=constant(1.0),
        bias=constant(0.0),
    )
    assert only(train_mode(layer)).severity is Severity.INFO


def test_train_mode_of_a_model_without_affine() -> None:
    """Moved statistics alone show that a model was trained."""
    layer = module_norm(training=True, weight=None, bias=None, affine=False)
    assert only(train_mode(layer)).severity is Severity.WARNING


def test_eval_mode_is_silent() -> None:
    """As it should be."""
    assert train_mode(*in_mode(False, "bn1", "bn2"), training=False) == []
    assert mixed(*in_mode(False, "bn1", "bn2"), training=False) == []


def test_norms_of_one_mode_are_not_train_mode_findings() -> None:
    """One norm in train mode does not matter where the model's do not depend on it."""
    own_input = [
        plain_norm("ln", training=True),
        plain_norm("gn", "GroupNorm", training=True),
        plain_norm("in", "InstanceNorm2d", training=True),
        frozen_norm("frozen", training=True),
    ]
    assert train_mode(*own_input) == []
    assert train_mode(*own_input, *in_mode(False, "bn")) == []


def test_tracking_instance_norm_depends_on_the_mode() -> None:
    """With statistics InstanceNorm is two functions, and counts here."""
    layer = module_norm(kind=kind("tracking InstanceNorm"), training=True)
    found = only(train_mode(layer))
    assert found.layers == ("bn",)
    assert found.title == "the model was saved in train mode, with its batch norm layer"


def test_left_in_train_mode() -> None:
    """The model is in eval mode and some norms are not: a warning that names those."""
    layers = [*in_mode(False, "body.bn1", "body.bn2"), *in_mode(True, "head.bn")]
    found = only(mixed(*layers, training=False))
    assert (found.severity, found.confidence) == (Severity.WARNING, Confidence.HIGH)
    assert found.layers == ("head.bn",)
    assert found.title == "1 batch norm layer of a model in eval mode is in train mode"
    assert found.detail == "The model and 2 other batch norm layers are in eval mode."
    assert evidence(found) == {"layers in train mode": 1.0}
    assert train_mode(*layers, training=False) == []


def test_frozen_part() -> None:
    """The model is in train mode and some norms are not: frozen on purpose, info."""
    layers = [*in_mode(False, "body.bn1", "body.bn2"), *in_mode(True, "head.bn")]
    found = only(mixed(*layers, training=True))
    assert (found.severity, found.confidence) == (Severity.INFO, Confidence.MEDIUM)
    assert found.layers == ("body.bn1", "body.bn2")
    assert found.title == "2 batch norm layers of a model in train mode are in eval mode"
    assert "freeze" in found.consequence


def test_mode_of_the_root_unknown() -> None:
    """Without the root's flag the mild reading is taken."""
    layers = [*in_mode(False, "a"), *in_mode(True, "b")]
    assert only(mixed(*layers, training=None)).severity is Severity.INFO


def test_eval_that_reached_no_norm() -> None:
    """The model says eval, every norm says train: mixed modes, not a model in train mode."""
    layers = in_mode(True, "net.bn1", "net.bn2")
    found = only(mixed(*layers, training=False))
    assert (found.severity, found.layers) == (Severity.WARNING, ("net.bn1", "net.bn2"))
    assert found.title == "2 batch norm layers of a model in eval mode are in train mode"
    assert "none of its batch norm layers is" in found.detail
    assert train_mode(*layers, training=False) == []


def test_all_in_train_mode_is_not_mixed() -> None:
    """A model in train mode as a whole is ``train-mode-in-file``."""
    assert mixed(*in_mode(True, "a", "b"), training=True) == []


def test_hidden_norms_do_not_mix_the_modes() -> None:
    """eval() does not reach a norm in a plain list; another rule's finding, once."""
    hidden = module_norm("norms[0]", training=True, reached=False)
    assert mixed(*in_mode(False, "bn"), hidden, training=False) == []
    assert train_mode(hidden) == []


def test_uninitialised_and_unknown_modes_are_left_out() -> None:
    """A lazy layer without numbers, and a class without a flag, say nothing."""
    layers = [module_norm("a", training=True, uninitialised=True), module_norm("b", training=None)]
    assert train_mode(*layers) == []
    assert mixed(*layers, *in_mode(False, "c"), training=False) == []
    assert mixed(*layers, *in_mode(True, "c"), training=True) == []


def frozen_affine(path: str = "bn", **changes: object) -> NormLayer:
    """A norm in train mode whose γ and β do not require gradients."""
    stopped = {
        "weight": values([0.9, 1.1], requires_grad=False),
        "bias": values([0.1, -0.1], requires_grad=False),
    }
    return module_norm(path, **{"training": True, **stopped, **changes})


def thawed(*layers: NormLayer, trainable: bool = True) -> list[Finding]:
    return judge("NC211", *layers, training=True, trainable=trainable)


def test_frozen_affine_in_train_mode() -> None:
    """Parameters frozen, statistics still moving, something else trains: a warning."""
    found = only(thawed(frozen_affine("body.bn1"), frozen_affine("body.bn2", bias=None)))
    assert (found.severity, found.confidence) == (Severity.WARNING, Confidence.MEDIUM)
    assert found.layers == ("body.bn1", "body.bn2")
    assert found.title == "2 frozen batch norm layers still update running statistics"


def test_wholly_frozen_model_is_silent() -> None:
    """Where nothing trains, train mode is a matter for other rules."""
    assert thawed(frozen_affine(), trainable=False) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"training": False},
        {"momentum": 0.0},
        {"track_running_stats": False},
        {"running_mean": None, "running_var": None},
        {"weight": values([1.0, 1.0], requires_grad=True)},
        {"bias": values([0.0, 0.0], requires_grad=True)},
        {"weight": None, "bias": None},
        {"kind": kind("FrozenBatchNorm2d")},
        {"kind": kind("tracking InstanceNorm")},
    ],
    ids="-".join,
)
def test_layers_whose_statistics_stand_still_or_that_train(changes: dict[str, object]) -> None:
    """In eval mode, at momentum 0, without statistics, or not frozen after all: silent."""
    assert thawed(frozen_affine(**changes)) == []


def test_state_of_gradients_unknown_is_silent() -> None:
    """None is not False."""
    assert thawed(frozen_affine(weight=values([0.9, 1.1]))) == []


def test_new_norm_of_a_state_dict_has_no_mode() -> None:
    """Layers without a flag are never accused of one."""
    assert train_mode(new_norm()) == mixed(new_norm(), training=None) == thawed(new_norm()) == []
