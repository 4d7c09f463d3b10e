"""NC107: running statistics that should be in the file and are not."""

from dataclasses import replace

import pytest

from normcheck.findings import Confidence, Finding, Severity
from normcheck.norms.layer import NormLayer
from tests.rules.layers import (
    GAMMAS,
    batch_norm,
    copy_of,
    frozen_norm,
    judge,
    kind,
    module_norm,
    only,
    plain_norm,
    values,
)

RULE = "missing-stats"


def bare(path: str, name: str = "BatchNorm2d", **changes: object) -> NormLayer:
    """Weight and bias among convolutions, as a state dict without metadata shows them."""
    return plain_norm(path, name, **changes)


def unsure(path: str, **changes: object) -> NormLayer:
    """The same under a name that could be GroupNorm's as well."""
    return bare(path, "LayerNorm or GroupNorm", **changes)


def test_mean_without_variance() -> None:
    """Half of a pair is an error that says which half, and how often."""
    found = only(
        judge(
            RULE,
            batch_norm("bn1", running_var=None),
            batch_norm("bn2", running_mean=None),
            batch_norm("bn3", running_var=None),
            batch_norm("bn4"),
        )
    )
    assert (found.severity, found.confidence) == (Severity.ERROR, Confidence.HIGH)
    assert found.layers == ("bn1", "bn2", "bn3")
    assert found.detail == "Missing: running_mean in 1 and running_var in 2."


def test_half_of_a_pair_in_a_whole_module() -> None:
    """A buffer set to None by hand is found in module trees as well."""
    layer = module_norm(running_var=None)
    assert only(judge(RULE, layer, modules=True)).severity is Severity.ERROR


def test_same_name_in_other_blocks() -> None:
    """Blocks are built alike: bn2 of one without statistics among others is an error."""
    blocks = [batch_norm(f"layer{i}.{j}.bn2") for i in (1, 2) for j in (0, 1)]
    found = only(judge(RULE, *blocks[:-1], unsure(blocks[-1].path)))
    assert (found.severity, found.confidence) == (Severity.ERROR, Confidence.HIGH)
    assert found.layers == ("layer2.1.bn2",)
    assert "3 layers of the same names in other blocks" in found.detail
    assert found.title == "no running statistics in 1 layer that should have them"


def test_same_place_in_other_blocks() -> None:
    """``downsample.1`` is a name too, as its block's number is not the last."""
    layers = [batch_norm("layer2.0.downsample.1"), unsure("layer3.0.downsample.1")]
    assert only(judge(RULE, *layers)).severity is Severity.ERROR


def test_several_with_the_same_last_name() -> None:
    """Only the last name is shared: a warning that admits another reading."""
    layers = [batch_norm("stem.norm"), unsure("block.norm"), unsure("last.norm")]
    found = only(judge(RULE, *layers))
    assert (found.severity, found.confidence) == (Severity.WARNING, Confidence.MEDIUM)
    assert found.layers == ("block.norm", "last.norm")
    assert "another kind" in found.detail


def test_a_single_one_of_the_same_last_name() -> None:
    """The stem of an IBN-Net is an InstanceNorm called bn1: info, and nothing asserted."""
    blocks = [batch_norm(f"layer1.{i}.bn1") for i in range(3)]
    found = only(judge(RULE, bare("bn1", norm_base=True), *blocks))
    assert (found.severity, found.confidence) == (Severity.INFO, Confidence.LOW)
    assert "may have lost" in found.title


def test_group_norms_beside_frozen_norms() -> None:
    """A detector's head has GroupNorms under the names of its frozen backbone: info."""
    layers = [frozen_norm("body.conv1.norm"), unsure("head.a.norm"), unsure("head.b.norm")]
    assert only(judge(RULE, *layers)).severity is Severity.INFO


@pytest.mark.parametrize(
    ("tracked", "other"),
    [("1", "4"), ("features.1", "features.8"), ("net.0.2", "net.1.5"), ("bn1", "bn3")],
)
def test_places_are_no_names(tracked: str, other: str) -> None:
    """Numbers in a Sequential, or of norms side by side, tell nothing of the kind."""
    assert judge(RULE, batch_norm(tracked), unsure(other), unsure(other + "1")) == []
    assert judge(RULE, batch_norm(tracked), bare(other)) == []


def test_parameters_only() -> None:
    """Batch norms by name, stored as parameters: what named_parameters() writes."""
    layers = [bare(f"bn{i}", weight=values(GAMMAS, requires_grad=True)) for i in (1, 2)]
    found = only(judge(RULE, *layers))
    assert (found.severity, found.confidence) == (Severity.WARNING, Confidence.MEDIUM)
    assert found.layers == ("bn1", "bn2")
    assert "named_parameters()" in found.detail


@pytest.mark.parametrize("requires_grad", [False, None])
def test_group_norms_called_bn(requires_grad: bool | None) -> None:
    """A ResNet built with GroupNorm keeps the names; without metadata that is info."""
    weight = values(GAMMAS, requires_grad=requires_grad)
    found = only(judge(RULE, bare("bn1", weight=weight), bare("layer1.0.bn1", weight=weight)))
    assert (found.severity, found.confidence) == (Severity.INFO, Confidence.LOW)
    assert "another kind" in found.detail


def test_average_of_the_parameters() -> None:
    """An average of parameters beside the raw model with its buffers is info."""
    weight = values(GAMMAS, requires_grad=True)
    raw = copy_of("state_dict", batch_norm("module.bn1"), batch_norm("module.bn2"))
    layers = [bare("bn1", weight=weight), bare("bn2", weight=weight)]
    found = only(judge(RULE, *layers, siblings=(raw,)))
    assert found.severity is Severity.INFO
    assert "'state_dict'" in found.detail


def test_other_norms_only() -> None:
    """A network of GroupNorms under names of their own has nothing to miss."""
    assert judge(RULE, unsure("a.norm"), unsure("b.norm")) == []


def test_metadata_of_a_batch_norm_among_blocks() -> None:
    """Taken for an InstanceNorm, as metadata allows, where the other blocks have statistics."""
    layers = [batch_norm("a.0.norm"), bare("a.1.norm", "InstanceNorm2d", norm_base=True)]
    assert only(judge(RULE, *layers)).layers == ("a.1.norm",)


def test_another_model_without_these_layers_is_no_excuse() -> None:
    """Only statistics for the same layers make up for missing ones."""
    weight = values(GAMMAS, requires_grad=True)
    other = copy_of("discriminator", batch_norm("bn1"))
    layers = [bare("bn1", weight=weight), bare("bn2", weight=weight)]
    assert only(judge(RULE, *layers, siblings=(other,))).severity is Severity.WARNING


def called(metadata: bool | None, name: str) -> list[Finding]:
    return judge(RULE, batch_norm("bn1"), bare("x.bn1", name, norm_base=metadata), bare("y.bn1"))


def test_metadata_acquits() -> None:
    """A state dict's metadata says that bn1 is no BatchNorm: silent."""
    layers = [batch_norm("a.0.bn1"), bare("a.1.bn1", norm_base=False)]
    assert judge(RULE, *layers) == []
    assert judge(RULE, bare("bn1", norm_base=False), bare("bn2", norm_base=False)) == []
    assert called(None, "BatchNorm2d") != called(False, "BatchNorm2d")


def test_layer_norm_called_bn() -> None:
    """Between linear layers, a pair called bn1 is recognised as a LayerNorm: silent."""
    layers = [batch_norm("a.0.bn1"), plain_norm("a.1.bn1"), plain_norm("bn1", "GroupNorm")]
    assert judge(RULE, *layers) == []


def test_batch_norm_without_tracking() -> None:
    """Metadata of a BatchNorm without statistics in the whole model: built that way."""
    assert judge(RULE, bare("bn1", norm_base=True), bare("bn2", norm_base=True)) == []


def test_whole_modules_are_judged_by_their_flags() -> None:
    """In a module tree missing statistics are another rule's."""
    layer = replace(module_norm("b.1.bn"), running_mean=None, running_var=None)
    assert judge(RULE, module_norm("b.0.bn"), layer, modules=True) == []


def test_unread_and_uninitialised_layers_are_silent() -> None:
    """Statistics that are there and cannot be read are not missing."""
    unread = bare("b.1.bn", unread={"running_mean": "on the meta device"})
    lazy = bare("b.2.bn", uninitialised=True)
    half = batch_norm("b.3.bn", running_var=None, unread={"running_var": "quantized"})
    assert judge(RULE, batch_norm("b.0.bn"), unread, lazy, half) == []


@pytest.mark.parametrize("name", ["LayerNorm", "RMSNorm", "InstanceNorm2d", "custom norm"])
def test_other_kinds_are_silent(name: str) -> None:
    """Only what could be a batch norm can miss its statistics."""
    layers = [batch_norm("b.0.norm"), plain_norm("b.1.norm", name), plain_norm("b.2.norm", name)]
    assert kind(name) is layers[1].kind
    assert judge(RULE, *layers) == []


def test_shapes_without_values() -> None:
    """A skeleton on the meta device: names and shapes, no numbers."""
    skeleton = batch_norm(
        running_mean=None,
        running_var=None,
        unread={"running_mean": "a meta tensor", "running_var": "a meta tensor"},
    )
    finding = only(judge("NC107", skeleton))
    assert finding.discriminator == "no values"
    assert finding.severity is Severity.ERROR


def test_values_of_an_unknown_type_are_not_missing() -> None:
    """They are there, if not for us."""
    quantized = batch_norm(
        running_mean=None, running_var=None, unread={"running_mean": "element type quint8"}
    )
    assert judge("NC107", quantized) == []
