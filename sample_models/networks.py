"""The networks behind the sample files, all small enough to train in seconds."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

CLASSES = 10
FEATURES = 20
HIDDEN = 64

# Widths of the convolutional network. At 16 and 32 channels a state dict stays near 70 kB,
# and every norm layer still has enough channels for its statistics to look like a real one's.
NARROW = 16
WIDE = 32

# Side of a digit image; the transformer reads an image as this many rows of this many pixels.
SIDE = 8


def mlp_batchnorm() -> nn.Sequential:
    """Return a two-layer perceptron over 20 features with BatchNorm1d."""
    return nn.Sequential(
        nn.Linear(FEATURES, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES)
    )


def mlp_layernorm() -> nn.Sequential:
    """Return the same perceptron with LayerNorm."""
    return nn.Sequential(
        nn.Linear(FEATURES, HIDDEN), nn.LayerNorm(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES)
    )


class ConvNorm(nn.Module):
    """A convolution without bias (the norm's shift takes its place) followed by BatchNorm2d."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        track_running_stats: bool = True,
    ) -> None:
        """Make the pair; padding keeps the image size at stride 1."""
        super().__init__()
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(outputs, track_running_stats=track_running_stats)

    def forward(self, images: Tensor) -> Tensor:
        """Convolve and normalise, without an activation."""
        normed: Tensor = self.norm(self.conv(images))
        return normed


class ResidualBlock(nn.Module):
    """Two convolutions with an identity shortcut."""

    def __init__(self, channels: int, *, track_running_stats: bool = True) -> None:
        """Make a block that keeps the number of channels and the image size."""
        super().__init__()
        self.first = ConvNorm(channels, channels, track_running_stats=track_running_stats)
        self.second = ConvNorm(channels, channels, track_running_stats=track_running_stats)

    def forward(self, images: Tensor) -> Tensor:
        """Add the block's correction to its input."""
        correction = self.second(functional.relu(self.first(images)))
        return functional.relu(images + correction)


class DigitsNet(nn.Module):
    """A convolutional network for 1x8x8 digits with six BatchNorm2d layers."""

    def __init__(self, *, track_running_stats: bool = True) -> None:
        """Make the network; without running statistics it normalises by the batch in any mode."""
        super().__init__()
        track = track_running_stats
        self.stem = ConvNorm(1, NARROW, track_running_stats=track)
        self.block = ResidualBlock(NARROW, track_running_stats=track)
        self.depthwise = ConvNorm(
            NARROW, NARROW, stride=2, groups=NARROW, track_running_stats=track
        )
        self.pointwise = ConvNorm(NARROW, WIDE, kernel=1, track_running_stats=track)
        self.last = ConvNorm(WIDE, WIDE, track_running_stats=track)
        self.head = nn.Linear(WIDE, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores for images of shape (batch, 1, 8, 8)."""
        maps = self.block(functional.relu(self.stem(images)))
        for layer in (self.depthwise, self.pointwise, self.last):
            maps = functional.relu(layer(maps))
        scores: Tensor = self.head(maps.mean(dim=(2, 3)))
        return scores


def deep_digits() -> nn.Sequential:
    """Return ten plain convolutions with BatchNorm: too deep to learn without normalisation."""
    widths = [1] + [NARROW] * 10
    blocks = [
        layer
        for inputs, outputs in pairwise(widths)
        for layer in (ConvNorm(inputs, outputs), nn.ReLU())
    ]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(NARROW, CLASSES))


class DigitsTransformer(nn.Module):
    """A transformer that reads a digit as eight rows; its only norms are LayerNorms."""

    def __init__(self, *, width: int = 32, layers: int = 2, dropout: float = 0.1) -> None:
        """Make a pre-norm encoder with learned row positions."""
        super().__init__()
        self.embed = nn.Linear(SIDE, width)
        self.positions = nn.Embedding(SIDE, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width,
                nhead=4,
                dim_feedforward=2 * width,
                dropout=dropout,
                batch_first=True,
                norm_first=True,
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores for images of shape (batch, 1, 8, 8)."""
        rows = self.embed(images.squeeze(1)) + self.positions.weight
        for layer in self.layers:
            rows = layer(rows)
        scores: Tensor = self.head(self.norm(rows).mean(dim=1))
        return scores
