"""Models to export: what depends on the mode in each is known."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (torch's own convention)


class Convolutional(nn.Module):
    """A convolutional network with all that usually depends on the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return self.fc(self.drop(x.mean((2, 3))))


class Residual(nn.Module):
    """Two residual blocks: a sum, a 1 × 1 shortcut, max and average pooling."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.pool = nn.MaxPool2d(2)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.down = nn.Sequential(nn.Conv2d(width, 2 * width, 1, bias=False),
                                  nn.BatchNorm2d(2 * width))  # fmt: skip
        self.conv3 = nn.Conv2d(width, 2 * width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(2 * width)
        self.conv4 = nn.Conv2d(2 * width, width, 1, bias=False)
        self.bn4 = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.stem(x))
        x = F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        x = F.relu(self.down(x) + self.bn3(self.conv3(x)))
        x = F.relu(self.bn4(self.conv4(x)))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Functional(nn.Module):
    """Normalises and drops by functions, with the mode handed over as it should be."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 16)
        self.register_buffer("mean", torch.zeros(16))
        self.register_buffer("var", torch.ones(16))

    def forward(self, x: Tensor) -> Tensor:
        x = F.batch_norm(self.fc(x), self.mean, self.var, training=self.training)
        return F.dropout(x, 0.2, training=self.training)


class ForgottenDropout(nn.Module):
    """``F.dropout(x)``, which is on in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 16)
        self.bn = nn.BatchNorm1d(16)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.bn(self.fc(x)), 0.25)


class StandardisedConv(nn.Conv2d):
    """Weight standardisation, by a batch norm over the weights."""

    def forward(self, x: Tensor) -> Tensor:
        weight = F.batch_norm(
            self.weight.reshape(1, self.out_channels, -1), None, None, training=True, momentum=0.0
        ).reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class StochasticDepth(nn.Module):
    """A residual branch that is dropped at random in training."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 12)
        self.norm = nn.LayerNorm(12)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(self.norm(x))
        if self.training:
            y = y * x.new_empty((x.shape[0], 1)).bernoulli_(0.8) / 0.8
        return x + y


class Attention(nn.Module):
    """Scaled dot-product attention with dropout."""

    def __init__(self, *, forgotten: bool = False) -> None:
        super().__init__()
        self.qkv = nn.Linear(16, 48)
        self.norm = nn.LayerNorm(16)
        self.forgotten = forgotten

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        p = 0.1 if self.training or self.forgotten else 0.0
        return F.scaled_dot_product_attention(q, k, v, dropout_p=p)


class Recurrent(nn.Module):
    """Two LSTM layers with dropout between them."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 8, num_layers=2, dropout=dropout, batch_first=True)
        self.norm = nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x)
        return self.norm(y)


class Shared(nn.Module):
    """One batch norm, used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 12)
        self.bn = nn.BatchNorm1d(12)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.fc(F.relu(self.bn(x))))


@dataclass(frozen=True)
class Case:
    """A model, an input, and what depends on its mode."""

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    named: frozenset[str]
    """Modules that a train-mode export must be accused of; empty where modes do not differ."""
    always: frozenset[str] = frozenset()
    """Modules that compute as in training in an eval-mode export too."""
    scriptable: bool = True

    def model(self, *, training: bool) -> nn.Module:
        """The model with statistics that were collected, in one mode."""
        torch.manual_seed(0)
        model = self.make()
        with torch.no_grad():
            for _ in range(20):
                model(torch.randn(8, *self.shape) * 1.5 + 0.3)
        return model.train(training)

    @property
    def example(self) -> Tensor:
        """Four samples."""
        return torch.randn(4, *self.shape, generator=torch.Generator().manual_seed(1))


CASES = [
    Case("convolutional", Convolutional, (3, 8, 8), frozenset({"bn1", "bn2", "drop"})),
    Case("residual", Residual, (3, 16, 16),
         frozenset({"stem.1", "bn1", "bn2", "bn3", "bn4", "down.1"})),
    Case("functional", Functional, (12,), frozenset({""})),
    Case("forgotten dropout", ForgottenDropout, (12,), frozenset({"bn", ""}), frozenset({""})),
    Case("volumes", lambda: nn.Sequential(nn.Conv3d(2, 4, 3), nn.BatchNorm3d(4), nn.ReLU()),
         (2, 5, 5, 5), frozenset({"1"})),
    Case("signals", lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4)), (2, 9),
         frozenset({"1"})),
    Case("instance norm", lambda: nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.InstanceNorm2d(6, affine=True), nn.ReLU(), nn.Conv2d(6, 4, 1),
        nn.InstanceNorm2d(4)), (3, 8, 8), frozenset()),
    Case("group and layer norm", lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Flatten(), nn.Linear(288, 16),
        nn.LayerNorm(16)), (3, 8, 8), frozenset()),
    Case("standardised weights", lambda: nn.Sequential(
        StandardisedConv(3, 8, 3), nn.GroupNorm(2, 8)), (3, 8, 8), frozenset()),
    Case("dropout of nothing", lambda: nn.Sequential(nn.Linear(12, 8), nn.Dropout(0.0),
                                                     nn.LayerNorm(8)), (12,), frozenset()),
    Case("alpha dropout", lambda: nn.Sequential(nn.Linear(12, 8), nn.SELU(),
                                                nn.AlphaDropout(0.1)), (12,), frozenset({"2"})),
    Case("spatial dropout", lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout2d(0.4)),
         (3, 4, 4), frozenset({"1"})),
    Case("stochastic depth", StochasticDepth, (12,), frozenset({""})),
    Case("attention", Attention, (6, 16), frozenset({""})),
    Case("forgotten attention", lambda: Attention(forgotten=True), (6, 16), frozenset({""}),
         frozenset({""})),
    Case("recurrent", Recurrent, (5, 8), frozenset({"lstm"})),
    Case("recurrent without dropout", lambda: Recurrent(0.0), (5, 8), frozenset()),
    Case("transformer layer", lambda: nn.TransformerEncoderLayer(16, 2, 32, 0.1,
                                                                 batch_first=True),
         (6, 16), frozenset({"dropout", "dropout1", "dropout2", "self_attn"}), scriptable=False),
    Case("shared", Shared, (12,), frozenset({"bn"})),
]  # fmt: skip


def traced(case: Case, path: Path, *, training: bool) -> Path:
    """As ``torch.jit.trace`` saves it."""
    model = case.model(training=training)
    torch.jit.save(torch.jit.trace(model, case.example, check_trace=False), path)
    return path


def scripted(case: Case, path: Path, *, training: bool) -> Path:
    """As ``torch.jit.script`` saves it."""
    torch.jit.save(torch.jit.script(case.model(training=training)), path)
    return path


def exported(
    case: Case, path: Path, *, training: bool, decomposed: bool = False, dynamic: bool = False
) -> Path:
    """As ``torch.export.save`` saves it."""
    shapes = ({0: torch.export.Dim("batch", min=2, max=64)},) if dynamic else None
    program = torch.export.export(
        case.model(training=training), (case.example,), dynamic_shapes=shapes
    )
    torch.export.save(program.run_decompositions() if decomposed else program, path)
    return path


def as_bytes(save: Callable[[io.BytesIO], None]) -> bytes:
    """What a function writes."""
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()
