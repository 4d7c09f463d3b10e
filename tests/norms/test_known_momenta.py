"""Momenta of libraries, told by the names of their models."""

from pathlib import Path

import pytest
import torch

from tests.norms.saved import layers_in, save
from tests.verdict import accused, report_on

C = 8


def norm(path: str, batches: int) -> dict[str, torch.Tensor]:
    return {
        f"{path}.weight": torch.linspace(0.5, 1.5, C),
        f"{path}.bias": torch.linspace(-1, 1, C),
        f"{path}.running_mean": torch.linspace(-1, 2, C),
        f"{path}.running_var": torch.linspace(1, 3, C),
        f"{path}.num_batches_tracked": torch.tensor(batches),
    }


def tabnet(batches: int) -> dict[str, torch.Tensor]:
    """The norms of pytorch-tabnet's classifier, under the names that it saves."""
    layers = "tabnet.encoder.feat_transformers.0.specifics.glu_layers"
    return {
        **norm("tabnet.encoder.initial_bn", batches),
        f"{layers}.0.fc.weight": torch.ones(C, C),
        **norm(f"{layers}.0.bn.bn", batches),
        f"{layers}.1.fc.weight": torch.ones(C, C),
        **norm(f"{layers}.1.bn.bn", batches),
    }


def other(batches: int) -> dict[str, torch.Tensor]:
    """The same norms in a model of nobody's."""
    return {n.replace("initial_bn", "first_bn"): t for n, t in tabnet(batches).items()}


@pytest.mark.parametrize("wrapped", [False, True])
def test_tabnet(wrapped: bool, tmp_path: Path) -> None:
    """Its own defaults, under whatever name the network was put."""
    state = {f"network.{n}" if wrapped else n: t for n, t in tabnet(80).items()}
    found = layers_in(save(state, tmp_path / "network.pt"))
    assert [layer.momentum for layer in found.values()] == [0.01, 0.02, 0.02]
    assert all("pytorch-tabnet" in layer.momentum_of for layer in found.values())


def test_a_default_run(tmp_path: Path) -> None:
    """After 80 batches 45 % of the first norm is its initial value; other models are acquitted."""
    path = save(tabnet(80), tmp_path / "few.pt")
    (finding,) = [f for f in report_on(path).findings if f.rule == "NC103"]
    assert "45 %" in finding.title
    assert "the default of pytorch-tabnet" in finding.detail
    assert not accused(save(tabnet(1_000), tmp_path / "many.pt"))
    assert not accused(save(other(80), tmp_path / "other.pt"))


def test_no_name_is_known(tmp_path: Path) -> None:
    """Where torch's default is assumed, what 0.01 would leave is said as well."""
    (finding,) = report_on(save(other(20), tmp_path / "few.pt")).findings
    assert "At momentum 0.01, which many libraries have, it would be 82 %;" in finding.detail


TRANSFORMERS = {
    ("mobilenet_v1.conv_stem.normalization", "mobilenet_v1.layer.0.normalization"): (0.9997,) * 2,
    (
        "mobilenet_v2.conv_stem.first_conv.normalization",
        "mobilenet_v2.layer.0.expand_1x1.normalization",
    ): (0.997, 0.997),
    (
        "efficientnet.embeddings.batchnorm",
        "efficientnet.encoder.blocks.1.expansion.expand_bn",
        "efficientnet.encoder.blocks.1.depthwise_conv.depthwise_norm",
        "efficientnet.encoder.blocks.1.projection.project_bn",
    ): (0.99, 0.1, 0.99, 0.99),
}


@pytest.mark.parametrize(("paths", "momenta"), TRANSFORMERS.items())
@pytest.mark.parametrize("kept", [True, False])
def test_transformers(
    paths: tuple[str, ...], momenta: tuple[float, ...], kept: bool, tmp_path: Path
) -> None:
    """Momenta that its models have from TensorFlow; without the norm that tells it, none."""
    state = {name: tensor for path in paths for name, tensor in norm(path, 5).items()}
    if not kept:
        state = {name.replace(paths[0], "first.norm"): tensor for name, tensor in state.items()}
    found = layers_in(save(state, tmp_path / "model.pt"))
    if kept:
        assert [layer.momentum for layer in found.values()] == list(momenta)
        assert {layer.eps for layer in found.values()} == {1e-3}
        # In the others the last batch alone is left, after however few.
        assert ("NC103" in accused(tmp_path / "model.pt")) is (0.1 in momenta)
    else:
        assert {layer.momentum for layer in found.values()} == {None}
        assert "NC103" in accused(tmp_path / "model.pt")
