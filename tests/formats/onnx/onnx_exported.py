"""Models whose exports hold every trap, and exporting them with torch."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - as torch's own documentation does
from torch import Tensor, nn

from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.saved.checkpoint import SavedModel
from normcheck.saved.graph import Flow, Graph, Node, Op

TRAINED = (Op.BATCH_NORM, Op.DROPOUT)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.silu(self.norm(self.conv(x)))


class Net(nn.Module):
    """Batch norms that can be folded and one that cannot, norms without modes, two dropouts."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.BatchNorm2d(3, eps=1e-3)
        self.stem = nn.Conv2d(3, 8, 3)
        self.layers = nn.Sequential(Block(8), nn.Sequential(Block(8)))
        self.between = nn.BatchNorm2d(8, affine=False)
        self.groups = nn.GroupNorm(4, 8)
        self.instance = nn.InstanceNorm2d(8, affine=True)
        self.plain = nn.InstanceNorm2d(8)
        self.drop = nn.Dropout(0.3)
        self.hidden = nn.Linear(8, 10)
        self.layer = nn.LayerNorm(10)
        self.slopes = nn.PReLU(10)
        self.last = nn.BatchNorm1d(10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.between(F.relu(self.layers(self.stem(self.first(x)))))
        x = F.max_pool2d(F.gelu(self.plain(self.instance(self.groups(x)))), 2)
        x = self.drop(x.mean((2, 3)))
        x = self.last(self.slopes(self.layer(self.hidden(x))))
        return F.dropout(x, 0.5, training=self.training)


def randomised(model: nn.Module) -> nn.Module:
    """With no two tensors alike, so that none is stored for another."""
    torch.manual_seed(0)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.1)
    return model


def export(
    model: nn.Module,
    path: Path,
    x: Tensor,
    *,
    dynamo: bool,
    training: bool = False,
    opset: int | None = None,
    **words: Any,
) -> Path:
    """Exports with one of torch's two exporters, in one of the modes."""
    model.train(training)
    mode = torch.onnx.TrainingMode.TRAINING if training else torch.onnx.TrainingMode.EVAL
    words |= {"external_data": False} if dynamo and "external_data" not in words else {}
    if not dynamo:
        words |= {"do_constant_folding": not training}
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model, (x,), path if dynamo else str(path), dynamo=dynamo, training=mode,
                opset_version=opset, verbose=False, **words,
            )  # fmt: skip
    finally:
        logging.disable(logging.NOTSET)
    return path


class Functional(nn.Module):
    """A convolution, and something behind it."""

    def __init__(self, behind: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3)
        self.behind = behind

    def forward(self, x: Tensor) -> Tensor:
        return self.behind(self.conv(x))


class Standardised(nn.Module):
    """Weight standardisation as timm writes it: a batch norm in training mode, over weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        weight = F.batch_norm(
            self.conv.weight.reshape(1, 4, -1), None, None, weight=torch.full((4,), 0.5),
            training=True, momentum=0.0, eps=1e-6,
        ).reshape_as(self.conv.weight)  # fmt: skip
        return F.conv2d(x, weight, self.conv.bias)


class Odd(nn.Module):
    """What looks like training mode and is not, and what is it in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = Functional(F.instance_norm)
        self.tracking = nn.InstanceNorm2d(4, track_running_stats=True)
        self.standardised = Standardised()
        self.dropping = Functional(F.dropout)
        self.untracked = nn.BatchNorm2d(4, track_running_stats=False)
        self.equal = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.tracking(self.plain(x))
        x = x * torch.empty(2, 1, 1, 1).bernoulli_(0.75)
        x = F.relu(self.untracked(self.dropping(F.relu(self.standardised(x)))))
        return self.equal(x)


class WrittenOut(nn.Module):
    """Sequences through a linear layer and norms, some of them by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 6)
        self.groups = nn.GroupNorm(2, 4)
        self.layer = nn.LayerNorm(6, eps=1e-4)
        self.llama = LlamaNorm(6)
        self.gemma = GemmaNorm(6)
        self.image = ImageNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.gemma(self.llama(self.layer(self.groups(self.linear(x)))))
        return self.image(x.unsqueeze(-1))


class LlamaNorm(nn.Module):
    """RMS norm as language models write it, with casts."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width))

    def forward(self, x: Tensor) -> Tensor:
        kept = x.dtype
        x = x.to(torch.float64)
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.weight * x.to(kept)


class EagerNorm(nn.Module):
    """RMS norm in one line: γ is multiplied before the quotient."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


class GemmaNorm(nn.Module):
    """RMS norm that adds 1 to its weight."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width))

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5)
        return x * (1.0 + self.weight)


class ImageNorm(nn.Module):
    """Layer norm over the channels of an image, by hand."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width))
        self.bias = nn.Parameter(torch.rand(width))

    def forward(self, x: Tensor) -> Tensor:
        u = x.mean(1, keepdim=True)
        s = (x - u).pow(2).mean(1, keepdim=True)
        x = (x - u) / torch.sqrt(s + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


def model_of(path: Path) -> SavedModel:
    """The one model of a file."""
    checkpoint = read_checkpoint(path)
    (model,) = checkpoint.models
    return model


def graph_of(path: Path) -> Graph:
    """Its graph."""
    graph = model_of(path).graph
    assert graph is not None
    return graph


def in_training(graph: Graph) -> list[Node]:
    """The nodes in training mode that act on what the user gives."""
    flow = Flow(graph)
    return [
        node
        for node in graph.nodes
        if node.op in TRAINED and node.training and flow.depends_on_input(node.operands["input"])
    ]
