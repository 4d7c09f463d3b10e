"""NC112, NC205, NC207, NC208 and NC209: what a layer keeps, and says that it keeps."""

import pytest

from normcheck.findings import Confidence, Severity
from normcheck.norms.layer import NormLayer
from tests.rules.layers import frozen_norm, judge, kind, module_norm, only, plain_norm, reset_norm

NONE = {"running_mean": None, "running_var": None, "batches": None}


def untracked(path: str = "bn", **changes: object) -> NormLayer:
    """A BatchNorm built with track_running_stats=False."""
    return module_norm(path, **{**NONE, "track_running_stats": False, **changes})


def test_batch_norm_without_statistics() -> None:
    """track_running_stats=False makes eval mode depend on the batch: a warning."""
    found = only(judge("NC205", untracked("a"), module_norm("b"), untracked("c")))
    assert (found.severity, found.confidence) == (Severity.WARNING, Confidence.HIGH)
    assert found.layers == ("a", "c")
    assert found.title == "2 batch norm layers use batch statistics in eval mode too"
    assert "on purpose" in found.fix


def test_one_layer_is_singular() -> None:
    """One layer uses, two layers use."""
    assert "1 batch norm layer uses batch" in only(judge("NC205", untracked())).title


def test_unknown_flag_without_buffers() -> None:
    """A class of its own without the flag is judged by its buffers."""
    assert only(judge("NC205", untracked(track_running_stats=None))).layers == ("bn",)


@pytest.mark.parametrize(
    "layer",
    [
        plain_norm("in", "InstanceNorm2d", track_running_stats=False),
        plain_norm("ln"),
        frozen_norm("frozen"),
        untracked(unread={"running_mean": "on the meta device"}),
        untracked(uninitialised=True),
        module_norm(running_var=None, track_running_stats=None),
    ],
    ids=["InstanceNorm", "LayerNorm", "frozen", "unread", "lazy", "half of a pair"],
)
def test_layers_that_do_not_use_the_batch(layer: NormLayer) -> None:
    """InstanceNorm's statistics come from each sample; unread ones are not missing."""
    assert judge("NC205", layer) == []


def test_a_contradiction_belongs_to_one_rule() -> None:
    """The flag on and no buffers is NC207, not NC205 as well."""
    layer = untracked(track_running_stats=True)
    assert judge("NC205", layer) == []
    found = only(judge("NC207", layer))
    assert (found.severity, found.confidence) == (Severity.WARNING, Confidence.HIGH)
    assert found.discriminator == "on"
    assert "is on, yet there are no running statistics in 1 layer" in found.title


def test_flag_off_and_statistics_there() -> None:
    """Eval mode goes on using what train mode no longer updates."""
    layers = [module_norm(path, track_running_stats=False) for path in ("a", "b")]
    found = only(judge("NC207", *layers, module_norm("c")))
    assert (found.severity, found.layers) == (Severity.WARNING, ("a", "b"))
    assert found.discriminator == "off"
    assert "before the flag was changed" in found.consequence


def test_both_contradictions_are_two_findings() -> None:
    """Their causes differ, and their consequences."""
    layers = [module_norm("a", track_running_stats=False), untracked("b", track_running_stats=True)]
    assert [f.layers for f in judge("NC207", *layers)] == [("a",), ("b",)]


def test_flag_and_buffers_that_agree() -> None:
    """On with statistics, off without, no flag at all, or nothing that can be known."""
    layers = [
        module_norm("on"),
        untracked("off"),
        module_norm("flagless", track_running_stats=None),
        frozen_norm("frozen"),
        untracked("lazy", track_running_stats=True, uninitialised=True),
        untracked("meta", track_running_stats=True, unread={"running_var": "meta"}),
        module_norm("half", running_var=None),
        module_norm("other half", running_mean=None),
        plain_norm("ln"),
    ]
    assert judge("NC207", *layers) == []


def test_tracked_instance_norm() -> None:
    """InstanceNorm with statistics is another function in eval mode: a warning."""
    layers = [module_norm(p, kind=kind("tracking InstanceNorm")) for p in ("model.2", "model.5")]
    found = only(judge("NC208", *layers))
    assert (found.severity, found.confidence) == (Severity.WARNING, Confidence.HIGH)
    assert found.layers == ("model.2", "model.5")
    assert "InstanceNorm layers use stored statistics" in found.title


def test_instance_norm_as_usual_is_silent() -> None:
    """Without tracking both modes are the same; a BatchNorm tracks by design."""
    plain = plain_norm("in", "InstanceNorm2d", track_running_stats=False)
    assert judge("NC208", plain, module_norm("bn"), frozen_norm("frozen")) == []


def test_uninitialised_layers() -> None:
    """A lazy layer that never saw an input has no numbers: a warning, in any file."""
    lazy = module_norm("bn1", uninitialised=True, weight=None, bias=None, **NONE)
    found = only(judge("NC209", lazy, module_norm("bn2"), modules=False))
    assert (found.severity, found.confidence) == (Severity.WARNING, Confidence.HIGH)
    assert found.layers == ("bn1",)


def test_initialised_layers_are_silent() -> None:
    """Fresh is not uninitialised."""
    assert judge("NC209", reset_norm(), plain_norm(), modules=False) == []


def test_statistics_in_plain_attributes() -> None:
    """Tensors that no state dict will hold: a warning that names them and the class."""
    layers = [
        module_norm("a", unregistered=("running_mean", "running_var"), class_path="own.MyNorm"),
        module_norm("b", unregistered=("running_var",), class_path="own.MyNorm"),
        module_norm("c"),
    ]
    found = only(judge("NC112", *layers))
    assert (found.severity, found.confidence) == (Severity.WARNING, Confidence.HIGH)
    assert found.layers == ("a", "b")
    assert found.detail == "running_mean, running_var are plain attributes of own.MyNorm."


def test_buffers_are_silent() -> None:
    """Registered statistics, absent ones, and norms without any."""
    assert judge("NC112", module_norm(), untracked("b"), plain_norm(), frozen_norm("f")) == []
