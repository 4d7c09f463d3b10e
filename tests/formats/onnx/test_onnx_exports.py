"""Exports by both exporters of torch, in eval and in train mode."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - as torch's own documentation does
from torch import nn

from normcheck.norms.find_norms import anatomy_of
from normcheck.norms.recognise.composed import composed_norms
from normcheck.saved.checkpoint import Form, SavedModel
from normcheck.saved.graph import Graph, Op
from tests.formats.onnx.onnx_exported import (
    EagerNorm,
    Functional,
    Net,
    Odd,
    WrittenOut,
    export,
    graph_of,
    in_training,
    model_of,
    randomised,
)

pytestmark = pytest.mark.slow

EXPORTERS = pytest.mark.parametrize("exporter", ["legacy", "dynamo"])
TRACED = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
STATISTICS = ("running_mean", "running_var")


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same model by both exporters in both modes; made once, for it takes seconds.

    Each from a fresh one: the older exporter runs it in train mode, and so moves its statistics.
    """
    folder = tmp_path_factory.mktemp("exports")
    return {
        f"{name} {mode}": export(
            randomised(Net()), folder / f"{name}-{mode}.onnx", TRACED, dynamo=name == "dynamo",
            training=mode == "train",
        )
        for name in ("legacy", "dynamo")
        for mode in ("eval", "train")
    }  # fmt: skip


def exported(model: nn.Module, folder: Path, exporter: str, opset: int | None = None) -> Graph:
    """In eval mode, on a small image."""
    x = torch.rand(2, 4, 8, 8)
    path = folder / "model.onnx"
    return graph_of(export(model, path, x, dynamo=exporter == "dynamo", opset=opset))


def test_every_layer_in_training_mode_is_named(exports: dict[str, Path]) -> None:
    """The older exporter writes them all, with the paths of their modules."""
    found = {(node.op, node.module) for node in in_training(graph_of(exports["legacy train"]))}
    norms = {"first", "layers.0.norm", "layers.1.0.norm", "between", "last"}
    assert found == {(Op.BATCH_NORM, path) for path in norms} | {
        (Op.DROPOUT, "drop"),
        (Op.DROPOUT, ""),
    }


def test_the_newer_exporter_keeps_dropout_and_folds_batch_norm(exports: dict[str, Path]) -> None:
    """Dropout stays in training mode; the mode of what was folded is in the metadata."""
    graph = graph_of(exports["dynamo train"])
    assert [(n.op, n.module, n.settings["p"]) for n in in_training(graph)] == [
        (Op.DROPOUT, "drop", 0.3),
        (Op.DROPOUT, "", 0.5),
    ]
    assert graph.folded == (("layers.0.norm", True), ("layers.1.0.norm", True))


@EXPORTERS
def test_no_export_of_eval_mode_is_accused(exports: dict[str, Path], exporter: str) -> None:
    """Nor does group norm, written as instance norm, become one."""
    graph = graph_of(exports[f"{exporter} eval"])
    assert in_training(graph) == []
    counts = Counter(node.op for node in graph.nodes)
    assert counts[Op.BATCH_NORM] == 3
    assert (counts[Op.GROUP_NORM], counts[Op.INSTANCE_NORM], counts[Op.LAYER_NORM]) == (1, 2, 1)
    assert counts[Op.DROPOUT] == 0
    assert all(not training for _, training in graph.folded)
    assert len(graph.folded) == 2


def test_the_older_exporter_leaves_the_convolution_of_what_it_folded(
    exports: dict[str, Path],
) -> None:
    """It renames weight and bias where it computed both."""
    folded = graph_of(exports["legacy eval"]).folded
    assert folded == (("layers.0.conv", False), ("layers.1.0.conv", False))


def test_weights_that_were_only_computed_are_no_folded_norm(tmp_path: Path) -> None:
    """Weight norm is computed at export, too; the bias keeps its name."""
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)), nn.ReLU())
    assert exported(model, tmp_path, "legacy").folded == ()


@pytest.mark.parametrize("which", ["legacy eval", "legacy train", "dynamo eval", "dynamo train"])
def test_statistics_are_those_of_the_state_dict(exports: dict[str, Path], which: str) -> None:
    """Bit for bit, under the same names, whatever tensors they were stored with."""
    model = model_of(exports[which])
    assert model.form is Form.ONNX
    assert model.graph is not None
    net = randomised(Net())
    if which == "legacy train":
        # What it writes is what is left after the run in which it traced the model.
        net.train()(TRACED)
    state = net.state_dict()
    checked = 0
    for node in model.graph.nodes:
        for part, value in node.operands.items():
            name = model.graph.stored.get(value)
            if name is None or part == "input" or node.op is Op.CONVOLUTION:
                continue
            assert name == f"{node.module}.{part}"
            expected = state[name].numpy()
            got = model.tensors[name].values()
            assert got.dtype == expected.dtype
            assert np.array_equal(got, expected), name
            checked += part in STATISTICS
    assert checked == (10 if which == "legacy train" else 6)


@pytest.mark.parametrize("which", ["legacy eval", "dynamo eval"])
def test_settings_in_the_convention_of_torch(exports: dict[str, Path], which: str) -> None:
    """Momentum is the share of the new value, eps as it was written in the source."""
    nodes = {node.module: node for node in graph_of(exports[which]).nodes if node.op is not Op.SAME}
    first, between = nodes["first"], nodes["between"]
    assert (first.settings["eps"], first.settings["momentum"]) == (1e-3, 0.1)
    assert {"weight", "bias"}.isdisjoint(between.operands)
    assert nodes["groups"].settings["num_groups"] == 4
    assert nodes["plain"].operands.keys() == {"input"}
    assert nodes["instance"].settings["uses_input_statistics"] is True
    activations = {
        n.settings.get("activation") for n in graph_of(exports[which]).nodes
        if n.op is Op.ACTIVATION
    }  # fmt: skip
    assert activations == {"ReLU", "SiLU", "GELU"}


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Graph]:
    """In eval mode, by both exporters."""
    folder = tmp_path_factory.mktemp("odd")
    return {name: exported(Odd(), folder, name) for name in ("legacy", "dynamo")}


@EXPORTERS
def test_what_is_in_training_mode_in_an_export_of_eval_mode(
    odd: dict[str, Graph], exporter: str
) -> None:
    """``F.dropout(x)``, and the batch norm without statistics; no instance norm, no weights.

    The newer exporter computes the statistics of the batch before the node and leaves its
    attribute at eval.
    """
    found = {n.module: n for n in in_training(odd[exporter])}
    assert found.keys() == {"dropping", "untracked"}
    assert found["dropping"].settings["p"] == 0.5
    assert found["untracked"].operands.keys() & set(STATISTICS) == set()


@EXPORTERS
def test_equal_tensors_are_stored_once_and_found_again(
    odd: dict[str, Graph], exporter: str
) -> None:
    """A model that was just made has all its means in one bias; each norm has its own name."""
    norms = [n for n in odd[exporter].nodes if n.op is Op.BATCH_NORM and "equal" in n.module]
    names = [odd[exporter].stored[n.operands[part]] for n in norms for part in STATISTICS]
    assert names == [f"equal.{i}.{part}" for i in (0, 2) for part in STATISTICS]


@EXPORTERS
def test_stochastic_depth_is_a_mask(odd: dict[str, Graph], exporter: str) -> None:
    """A Bernoulli draw is written as a comparison of uniform numbers."""
    (mask,) = [n for n in odd[exporter].nodes if n.op in (Op.RANDOM_MASK, Op.RANDOM)]
    assert (mask.op, mask.settings["p"]) == (Op.RANDOM_MASK, 0.75)


def test_batch_norm_called_with_training(tmp_path: Path) -> None:
    """The node in training mode takes the module's statistics."""
    norm = randomised(nn.BatchNorm2d(4))

    def behind(x: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(x, norm.running_mean, norm.running_var, training=True)

    for opset in (11, 17):
        (node,) = in_training(exported(Functional(behind), tmp_path, "legacy", opset))
        assert node.op is Op.BATCH_NORM
        assert "running_mean" in node.operands


@pytest.mark.parametrize("opset", [9, 11, 13, 17, 20])
def test_operator_sets_of_the_older_exporter(tmp_path: Path, opset: int) -> None:
    """In train mode both are named, in eval mode neither."""
    model = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4), nn.GELU(), nn.Dropout(0.25))
    x = torch.rand(2, 4, 5, 5)
    for training in (True, False):
        path = tmp_path / f"{training}.onnx"
        graph = graph_of(export(model, path, x, dynamo=False, training=training, opset=opset))
        assert [n.op for n in in_training(graph)] == (
            [] if not training else [Op.BATCH_NORM] if opset < 12 else [Op.BATCH_NORM, Op.DROPOUT]
        )
        names = {n.settings.get("activation") for n in graph.nodes if n.op is Op.ACTIVATION}
        assert names == {"ReLU", "GELU"}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SavedModel]:
    """The same model, with and without operators for its norms."""
    folder = tmp_path_factory.mktemp("written")
    opsets = {"legacy": 13, "dynamo": 18, "newest": 23}
    return {
        name: model_of(
            export(
                randomised(WrittenOut()), folder / f"{name}.onnx", torch.rand(2, 4, 8),
                dynamo=name != "legacy", opset=opset,
            )
        )
        for name, opset in opsets.items()
    }  # fmt: skip


@pytest.mark.parametrize("which", ["legacy", "dynamo", "newest"])
def test_group_norm_and_linear_of_sequences(written: dict[str, SavedModel], which: str) -> None:
    """A matrix product of a transposed weight is the linear layer that it was."""
    model = written[which]
    assert model.graph is not None
    kinds = [n.op for n in model.graph.nodes if n.op in (Op.LINEAR, Op.GROUP_NORM, Op.LAYER_NORM)]
    assert kinds == [Op.LINEAR, Op.GROUP_NORM, Op.LAYER_NORM][: 2 if which == "legacy" else 3]
    for name, tensor in randomised(WrittenOut()).state_dict().items():
        if name.startswith(("linear", "groups", "layer")):
            assert np.array_equal(model.tensors[name].values(), tensor.numpy()), name


@pytest.mark.parametrize("which", ["legacy", "dynamo", "newest"])
def test_norms_that_are_written_out(written: dict[str, SavedModel], which: str) -> None:
    """RMS norm with casts, with 1 + weight, layer norm over channels.

    The older exporter writes every layer norm out before version 17; the newer one finds RMS norm
    again in version 23.
    """
    model = written[which]
    assert model.graph is not None
    found = composed_norms(model.graph)
    fused = [n for n in model.graph.nodes if n.op is Op.RMS_NORM]
    assert [n.module for n in fused] == (["llama"] if which == "newest" else [])
    assert [(n.op, n.module, n.settings["eps"]) for n in found] == [
        *([(Op.LAYER_NORM, "layer", 1e-4)] if which == "legacy" else []),
        *([(Op.RMS_NORM, "llama", 1e-6)] if which != "newest" else []),
        (Op.RMS_NORM, "gemma", 1e-5),
        (Op.LAYER_NORM, "image", 1e-6),
    ]
    state = randomised(WrittenOut()).state_dict()
    for node in found:
        for part in {"weight", "bias"} & node.operands.keys():
            stored = model.tensors[model.graph.stored[node.operands[part]]].values().reshape(-1)
            # 1 + weight does not depend on the input, so that exporters compute it.
            expected = state[f"{node.module}.{part}"] + (node.module == "gemma")
            assert np.array_equal(stored, expected.numpy()), node.module


PLAIN = {
    "instance": (nn.InstanceNorm2d(4), "InstanceNorm2d"),
    "tracking": (nn.InstanceNorm2d(4, track_running_stats=True), "tracking InstanceNorm"),
    "function": (Functional(F.instance_norm), "InstanceNorm2d"),
    "groups": (nn.GroupNorm(2, 4, affine=False), "GroupNorm"),
    "untracked": (nn.BatchNorm2d(4, affine=False, track_running_stats=False), "BatchNorm2d"),
    "layer": (nn.LayerNorm((4, 8, 8), elementwise_affine=False), "LayerNorm"),
}
"""Norms without γ and β: no tensor of theirs is in the file to name them by."""


@EXPORTERS
@pytest.mark.parametrize("opset", [12, 18])
@pytest.mark.parametrize("name", PLAIN)
def test_norms_without_tensors_are_called_by_their_module(
    name: str, exporter: str, opset: int, tmp_path: Path
) -> None:
    norm, kind = PLAIN[name]
    if exporter == "dynamo" and opset < 18:
        pytest.skip("below what the newer exporter writes")
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Sequential(norm), nn.ReLU())
    path = export(
        model, tmp_path / "model.onnx", torch.rand(2, 3, 8, 8), dynamo=exporter == "dynamo",
        opset=opset,
    )  # fmt: skip
    (layer,) = anatomy_of(model_of(path)).layers
    assert layer.kind.name == kind
    if name != "function":  # which is a part of a module with weights
        assert layer.path == "1.0"
    if name == "tracking":
        assert layer.running_mean is not None
        assert layer.weight is None


@EXPORTERS
def test_a_gain_before_the_quotient(exporter: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 6), EagerNorm(6))
    path = export(model, tmp_path / "m.onnx", torch.rand(2, 4, 8), dynamo=exporter == "dynamo")
    (layer,) = anatomy_of(model_of(path)).layers
    assert (layer.path, layer.kind.name) == ("1", "RMSNorm")
    assert layer.weight is not None
    assert layer.weight.numbers == pytest.approx(model[1].weight.detach().numpy())
