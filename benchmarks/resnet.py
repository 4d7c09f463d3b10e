"""Residual networks of basic blocks, as ResNet-18 and 34 are, randomly initialised."""

from torch import Tensor, nn

WIDTH = 64


class Block(nn.Module):
    """The basic block of a ResNet."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        """Two convolutions of three by three."""
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm_first = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm_second = nn.BatchNorm2d(outputs)
        self.shortcut = (
            nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
            if inputs != outputs
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the two paths."""
        inner = self.norm_second(self.second(self.norm_first(self.first(x)).relu()))
        return (inner + self.shortcut(x)).relu()


def resnet(blocks: tuple[int, ...] = (2, 2, 2, 2)) -> nn.Module:
    """A ResNet of basic blocks; the default is ResNet-18's."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, WIDTH, 7, 2, 3, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]  # fmt: skip
    channels = WIDTH
    for stage, count in enumerate(blocks):
        width = WIDTH * 2**stage
        for number in range(count):
            layers.append(Block(channels, width, 2 if stage and not number else 1))
            channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 100))
