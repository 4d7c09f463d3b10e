"""Small networks of many styles, trained on data that packages ship, for benches of verdicts.

Each style is one way of building with BatchNorm; each is trained on each of its data sets and kept
in a folder, so that a second run costs nothing.
"""

# ruff: noqa: D102, D107  (torch modules: what a forward computes is said of the class)

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from torch import nn

WIDTH = 24
EPOCHS = 5
EARLY = 1
"""Epoch whose statistics are kept as those of an early time of training."""


@dataclass(frozen=True)
class Data:
    """Training and test samples."""

    name: str
    x: torch.Tensor
    y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor


def _split(name: str, x: np.ndarray, y: np.ndarray) -> Data:
    order = np.random.default_rng(0).permutation(len(x))
    inputs = torch.tensor(x[order], dtype=torch.float32)
    labels = torch.tensor(y[order].astype(np.int64))
    cut = int(0.7 * len(x))
    return Data(name, inputs[:cut], labels[:cut], inputs[cut:], labels[cut:])


def digits() -> Data:
    """1,797 images of 8 × 8 (scikit-learn), 10 classes."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return _split("digits", (data.images / 16 - 0.3)[:, None] / 0.38, data.target)


def patches() -> Data:
    """Patches of 16 × 16 from the two photographs of scikit-learn; 8 classes by place."""
    from sklearn.datasets import load_sample_images

    x, y = [], []
    rng = np.random.default_rng(1)
    for number, image in enumerate(load_sample_images().images):
        pixels = image.transpose(2, 0, 1)[:, ::2, ::2] / 255.0
        high, wide = pixels.shape[1] // 2, pixels.shape[2] // 2
        for quadrant in range(4):
            top, left = (quadrant // 2) * high, (quadrant % 2) * wide
            for _ in range(150):
                row = top + rng.integers(0, high - 16)
                column = left + rng.integers(0, wide - 16)
                x.append(pixels[:, row : row + 16, column : column + 16])
                y.append(4 * number + quadrant)
    images = np.stack(x)
    return _split("patches", (images - images.mean((0, 2, 3), keepdims=True)) / 0.25, np.array(y))


def cells() -> Data:
    """569 samples of 30 features (breast cancer, scikit-learn), 2 classes."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    return _split("cells", (data.data - data.data.mean(0)) / data.data.std(0), data.target)


def wines() -> Data:
    """178 samples of 13 features, not standardised (wine, scikit-learn), 3 classes."""
    from sklearn.datasets import load_wine

    data = load_wine()
    return _split("wines", data.data / data.data.std(0), data.target)


class Residual(nn.Module):
    """A block of two convolutions, its norm before or behind."""

    def __init__(self, made_of: int, makes: int, *, before: bool = False, stride: int = 1) -> None:
        super().__init__()
        self.before = before
        self.bn1 = nn.BatchNorm2d(made_of if before else makes)
        self.conv1 = nn.Conv2d(made_of, makes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(makes)
        self.conv2 = nn.Conv2d(makes, makes, 3, padding=1, bias=False)
        self.shortcut = nn.Sequential()
        if made_of != makes or stride != 1:
            parts: list[nn.Module] = [nn.Conv2d(made_of, makes, 1, stride, bias=False)]
            self.shortcut = nn.Sequential(*parts, *([] if before else [nn.BatchNorm2d(makes)]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.before:
            y = self.conv1(self.bn1(x).relu())
            return self.conv2(self.bn2(y).relu()) + self.shortcut(x)
        y = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(y)) + self.shortcut(x)).relu()


class Dense(nn.Module):
    """A layer whose output is joined to its input."""

    def __init__(self, made_of: int, grows: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(made_of), nn.Conv2d(made_of, grows, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.conv(self.norm(x).relu())], 1)


class UNet(nn.Module):
    """Down, up, and a join across."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.a, self.b = chain(channels, WIDTH, 2), chain(WIDTH, 2 * WIDTH, 2)
        self.up = nn.Sequential(
            nn.ConvTranspose2d(2 * WIDTH, WIDTH, 2, 2, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU()
        )
        self.c = chain(2 * WIDTH, WIDTH, 2)
        self.head = head(WIDTH, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.a(x)
        b = self.up(self.b(nn.functional.max_pool2d(a, 2)))
        return self.head(self.c(torch.cat([a, b], 1)))


class Branches(nn.Module):
    """An Inception block: four branches side by side, joined."""

    def __init__(self, made_of: int) -> None:
        super().__init__()
        self.branch1 = chain(made_of, 16, 1)
        self.branch2 = nn.Sequential(*_point(made_of, 16), *chain(16, 24, 1))
        self.branch3 = nn.Sequential(*_point(made_of, 16), *chain(16, 16, 2))
        self.branch_pool = nn.Sequential(nn.AvgPool2d(3, 1, 1), *_point(made_of, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.children()], 1)


class Unit(nn.Module):
    """Convolution, norm, SiLU."""

    def __init__(self, made_of: int, makes: int, size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(made_of, makes, size, padding=size // 2, bias=False)
        self.bn = nn.BatchNorm2d(makes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.silu(self.bn(self.conv(x)))


class Split(nn.Module):
    """A block of two halves, of which one goes through parts that add up, as detectors have."""

    def __init__(self, made_of: int, makes: int, parts: int = 2) -> None:
        super().__init__()
        half = makes // 2
        self.cv1, self.cv2 = Unit(made_of, makes, 1), Unit((2 + parts) * half, makes, 1)
        self.m = nn.ModuleList(
            nn.ModuleDict({"cv1": Unit(half, half, 3), "cv2": Unit(half, half, 3)})
            for _ in range(parts)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = list(self.cv1(x).chunk(2, 1))
        for part in self.m:
            made.append(made[-1] + part["cv2"](part["cv1"](made[-1])))
        return self.cv2(torch.cat(made, 1))


def _point(made_of: int, makes: int) -> list[nn.Module]:
    return [nn.Conv2d(made_of, makes, 1, bias=False), nn.BatchNorm2d(makes), nn.ReLU()]


class Recurrent(nn.Module):
    """Convolutions over rows, then a GRU."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.front = chain(channels, WIDTH, 3)
        self.gru = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.norm, self.out = nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.front(x).mean(3).transpose(1, 2)
        return self.out(self.norm(self.gru(rows)[0][:, -1]))


class Attention(nn.Module):
    """A transformer layer with BatchNorm over its features, and a feed-forward of two norms."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(channels, WIDTH, 2, 2, bias=False)
        self.norm0 = nn.BatchNorm2d(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, 4, batch_first=True)
        self.norm1 = nn.BatchNorm1d(WIDTH)
        self.fc1, self.norm2 = nn.Linear(WIDTH, 2 * WIDTH), nn.BatchNorm1d(2 * WIDTH)
        self.fc2, self.norm3 = nn.Linear(2 * WIDTH, WIDTH), nn.BatchNorm1d(WIDTH)
        self.out = nn.Linear(WIDTH, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.norm0(self.patch(x)).flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        flat = self.norm1(tokens.flatten(0, 1))
        flat = flat + self.norm3(self.fc2(self.norm2(self.fc1(flat)).relu()))
        return self.out(flat.view(tokens.shape).mean(1))


def chain(
    made_of: int,
    makes: int,
    length: int,
    act: Callable[[], nn.Module] = nn.ReLU,
    *,
    bias: bool = False,
    groups: int = 1,
    last_act: bool = True,
) -> nn.Sequential:
    """Convolution, norm, activation, several times."""
    parts: list[nn.Module] = []
    for number in range(length):
        first = made_of if number == 0 else makes
        grouped = groups if number else 1
        parts += [nn.Conv2d(first, makes, 3, padding=1, bias=bias, groups=grouped)]
        parts += [nn.BatchNorm2d(makes), act()]
    return nn.Sequential(*(parts if last_act else parts[:-1]))


def head(channels: int, classes: int) -> nn.Sequential:
    """Average over space, then a linear layer."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def _mobile(channels: int, classes: int) -> nn.Module:
    def unit(made_of: int, makes: int) -> list[nn.Module]:
        deep = nn.Conv2d(made_of, made_of, 3, padding=1, groups=made_of, bias=False)
        point = nn.Conv2d(made_of, makes, 1, bias=False)
        return [deep, nn.BatchNorm2d(made_of), nn.ReLU6(), point, nn.BatchNorm2d(makes), nn.ReLU6()]

    units = [unit(WIDTH, WIDTH), unit(WIDTH, 32), unit(32, 32)]
    return nn.Sequential(
        chain(channels, WIDTH, 1), *(p for u in units for p in u), head(32, classes)
    )


def _separable(channels: int, classes: int) -> nn.Module:
    parts: list[nn.Module] = []
    for _ in range(4):
        parts += [nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH), nn.Conv2d(WIDTH, WIDTH, 1)]
        parts += [nn.BatchNorm2d(WIDTH), nn.ReLU()]
    return nn.Sequential(chain(channels, WIDTH, 1), nn.Sequential(*parts), head(WIDTH, classes))


def _branches(channels: int, classes: int) -> nn.Module:
    blocks = [Branches(WIDTH), Branches(72), Branches(72)]
    return nn.Sequential(chain(channels, WIDTH, 2), *blocks, head(72, classes))


def _halved(channels: int, classes: int) -> nn.Module:
    blocks = [Unit(channels, 32, 3), Split(32, 32), Unit(32, 48, 3), Split(48, 48, 1)]
    return nn.Sequential(*blocks, head(48, classes))


def _pooled(channels: int, classes: int) -> nn.Module:
    pool: tuple[nn.Module, ...] = (nn.MaxPool2d(2),)
    return nn.Sequential(
        *chain(channels, WIDTH, 2), *pool, *chain(WIDTH, 32, 2), *pool, *chain(32, 32, 2),
        head(32, classes),
    )  # fmt: skip


def _norm_last(channels: int, classes: int) -> nn.Module:
    parts: list[nn.Module] = []
    for number in range(4):
        first = channels if number == 0 else WIDTH
        parts += [nn.Conv2d(first, WIDTH, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(WIDTH)]
    return nn.Sequential(*parts, head(WIDTH, classes))


def _transposed(channels: int, classes: int) -> nn.Module:
    down = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Conv2d(channels, WIDTH, 1, bias=False))
    parts: list[nn.Module] = [nn.BatchNorm2d(WIDTH), nn.ReLU()]
    for _ in range(3):
        up = nn.ConvTranspose2d(WIDTH, WIDTH, 4, 2, 1, bias=False)
        parts += [up, nn.BatchNorm2d(WIDTH), nn.ReLU()]
    return nn.Sequential(down, *parts, head(WIDTH, classes))


def _rows(channels: int, classes: int) -> nn.Module:
    parts: list[nn.Module] = [nn.Flatten(1, 2)]
    size = 8 if channels == 1 else 48
    for number in range(4):
        first = size if number == 0 else WIDTH
        parts += [nn.Conv1d(first, WIDTH, 3, padding=1), nn.BatchNorm1d(WIDTH), nn.ReLU()]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(WIDTH, classes))


def _mlp(features: int, classes: int, act: Callable[[], nn.Module], depth: int) -> nn.Module:
    parts: list[nn.Module] = [nn.Flatten()]
    for number in range(depth):
        parts += [nn.Linear(features if number == 0 else 32, 32), nn.BatchNorm1d(32), act()]
    return nn.Sequential(*parts, nn.Linear(32, classes))


def _res(before: bool) -> Callable[[int, int], nn.Module]:
    def build(channels: int, classes: int) -> nn.Module:
        stem = chain(channels, WIDTH, 1, last_act=not before)
        if before:
            stem = nn.Sequential(nn.Conv2d(channels, WIDTH, 3, padding=1, bias=False))
        blocks = [
            Residual(WIDTH, WIDTH, before=before), Residual(WIDTH, 32, before=before, stride=2),
            Residual(32, 32, before=before),
        ]  # fmt: skip
        end: list[nn.Module] = [nn.BatchNorm2d(32), nn.ReLU()] if before else []
        return nn.Sequential(stem, *blocks, *end, head(32, classes))

    return build


def _chained(act: Callable[[], nn.Module], **options: int) -> Callable[[int, int], nn.Module]:
    def build(channels: int, classes: int) -> nn.Module:
        return nn.Sequential(*chain(channels, WIDTH, 5, act, **options), head(WIDTH, classes))

    return build


def _dense(channels: int, classes: int) -> nn.Module:
    layers = [Dense(WIDTH + 8 * n, 8) for n in range(4)]
    end = [nn.BatchNorm2d(WIDTH + 32), nn.ReLU()]
    return nn.Sequential(chain(channels, WIDTH, 1), *layers, *end, head(WIDTH + 32, classes))


IMAGE_STYLES: dict[str, Callable[[int, int], nn.Module]] = {
    "plain": _chained(nn.ReLU),
    "plain with bias": _chained(nn.ReLU, bias=True),
    "SiLU": _chained(nn.SiLU),
    "leaky ReLU": _chained(lambda: nn.LeakyReLU(0.2)),
    "tanh": _chained(nn.Tanh),
    "grouped": _chained(nn.ReLU, groups=4),
    "residual": _res(before=False),
    "pre-activation": _res(before=True),
    "depthwise": _mobile,
    "dense": _dense,
    "U-Net": UNet,
    "max pooling": _pooled,
    "norm behind activation": _norm_last,
    "transposed": _transposed,
    "one-dimensional": _rows,
    "recurrent": Recurrent,
    "transformer": Attention,
    "separable": _separable,
    "branches": _branches,
    "split": _halved,
}
TABLE_STYLES: dict[str, Callable[[int, int], nn.Module]] = {
    "MLP": lambda f, c: _mlp(f, c, nn.ReLU, 4),
    "MLP, GELU": lambda f, c: _mlp(f, c, nn.GELU, 5),
}
_BUILD_IMAGES = (digits, patches)
_BUILD_TABLES = (digits, cells, wines)


@dataclass(frozen=True)
class Trained:
    """One network with what was kept of its training."""

    style: str
    data: Data
    seed: int
    model: nn.Module
    state: dict[str, torch.Tensor]
    early: dict[str, torch.Tensor]
    """Of the end of epoch ``EARLY``."""
    averaged: dict[str, torch.Tensor]
    """An exponential average of the parameters over training."""

    @property
    def name(self) -> str:
        """Style, data and seed."""
        return f"{self.style} on {self.data.name}, seed {self.seed}"

    def accuracy(self, state: dict[str, torch.Tensor]) -> float:
        """In eval mode, on the test samples."""
        self.model.load_state_dict(state)
        self.model.eval()
        with torch.no_grad():
            return float(
                (self.model(self.data.test_x).argmax(1) == self.data.test_y).float().mean()
            )


RECIPES = ("Adam", "cosine", "SGD")
"""Ways of training: Adam at one rate with weight decay; Adam without, annealed to nothing; SGD with
momentum and decay, annealed. Thresholds that hold for one alone hold for that one."""


def networks(
    folder: Path, seeds: int, recipe: str = RECIPES[0], first: int = 0
) -> Iterator[Trained]:
    """Every style on each of its data sets, trained from seeds on, or taken from the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    images = [build() for build in _BUILD_IMAGES]
    tables = [build() for build in _BUILD_TABLES]
    for styles, sets in ((IMAGE_STYLES, images), (TABLE_STYLES, tables)):
        for style, build in styles.items():
            for data in sets:
                for seed in range(first, first + seeds):
                    yield _network(folder, style, build, data, seed, recipe)


def _network(
    folder: Path,
    style: str,
    build: Callable[[int, int], nn.Module],
    data: Data,
    seed: int,
    recipe: str,
) -> Trained:
    # A number of its own for each: of one and the same, all styles would begin with equal first
    # weights, and whatever the first norm tells would be one draw and not twenty.
    drawn = crc32(f"{style} {data.name} {seed}".encode())
    torch.manual_seed(drawn)
    taken = data.x.shape[1] if style in IMAGE_STYLES else data.x[0].numel()
    model = build(taken, int(data.y.max()) + 1)
    by = "" if recipe == RECIPES[0] else f" {recipe}"
    file = folder / f"{style} {data.name} {seed}{by} {drawn:08x}.pt".replace(" ", "-").replace(
        ",", ""
    )
    if not file.exists():
        torch.save(_train(model, data, drawn, recipe), file)
    kept = torch.load(file)
    return Trained(style, data, seed, model, kept["state"], kept["early"], kept["averaged"])


def _optimizer(model: nn.Module, recipe: str) -> torch.optim.Optimizer:
    if recipe == "SGD":
        return torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    return torch.optim.Adam(
        model.parameters(), 3e-3, weight_decay=0.0 if recipe == "cosine" else 1e-4
    )


def _train(
    model: nn.Module, data: Data, seed: int, recipe: str
) -> dict[str, dict[str, torch.Tensor]]:
    optimizer = _optimizer(model, recipe)
    order = torch.Generator().manual_seed(seed)
    averaged = {k: v.detach().clone() for k, v in model.named_parameters()}
    early: dict[str, torch.Tensor] = {}
    batch = 32 if len(data.x) > 400 else 16
    # Small sets get more epochs: enough batches for running statistics either way.
    epochs = EPOCHS * max(1, 900 // len(data.x))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(epochs):
        model.train()
        for rows in torch.randperm(len(data.x), generator=order).split(batch):
            if len(rows) < 2:
                continue
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(data.x[rows]), data.y[rows]).backward()
            optimizer.step()
            for key, value in model.named_parameters():
                averaged[key].lerp_(value.detach(), 0.01)
        if recipe != RECIPES[0]:
            schedule.step()
        if epoch + 1 == max(EARLY, epochs // 8):
            early = {k: v.clone() for k, v in model.state_dict().items()}
    state = {k: v.clone() for k, v in model.state_dict().items()}
    return {"state": state, "early": early, "averaged": averaged}
