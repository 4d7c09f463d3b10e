"""The size of images that is guessed: from files beside the weights, attributes and layers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

import normcheck
from normcheck.live.batches import Feed
from normcheck.live.feeding.feed import feed_for
from normcheck.live.feeding.image_size import likely_sizes, stated_sizes
from normcheck.live.feeding.size_beside import LikelySize, sides_of, size_beside
from normcheck.live.run_request import Feeding
from normcheck.live.watching.forward import Forward


class Pooled(nn.Sequential):
    """A stem, and pooling that leaves the size free."""

    def __init__(self, *stem: nn.Module, makes: int = 8) -> None:
        super().__init__(*stem, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(makes, 2))


class Patches(nn.Module):
    """Cuts images into patches of 8, with a position for each and for a class."""

    def __init__(self, across: int = 5) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, 8, 8, 8)
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + across * across, 8))
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.cut(x).flatten(2).transpose(1, 2)
        return self.head((tokens + self.pos_embed[:, 1:]).mean(1))


class Configured(Pooled):
    """As timm's models are, whose configuration is an attribute."""

    default_cfg: ClassVar[dict[str, object]] = {"input_size": (3, 160, 192), "num_classes": 2}


def deep_pooling() -> nn.Module:
    """Several places are left behind strides that multiply, as in VGG."""
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, 2, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d((7, 7)), nn.Flatten(), nn.Linear(196, 2))


LIKELY: dict[str, tuple[Callable[[], nn.Module], tuple[int, int], str]] = {
    "7x7 of stride 2": (lambda: Pooled(nn.Conv2d(3, 8, 7, 2, 3)), (224, 224), "7x7 with stride 2"),
    "3x3 of stride 2": (lambda: Pooled(nn.Conv2d(3, 8, 3, 2, 1)), (224, 224), "as of photographs"),
    "patches of 4": (lambda: Pooled(nn.Conv2d(3, 8, 4, 4)), (224, 224), "4x4 with stride 4"),
    "3x3 of stride 1": (lambda: Pooled(nn.Conv2d(3, 8, 3)), (32, 32), "as of small images"),
    "one channel": (lambda: Pooled(nn.Conv2d(1, 8, 3)), (28, 28), "small grey images"),
    "positions": (Patches, (40, 40), "pos_embed, 5 x 5 positions of patches of 8"),
    "pooling to 7": (deep_pooling, (28, 28), "7 x 7 behind strides of 4"),
    "configured": (lambda: Configured(nn.Conv2d(3, 8, 3)), (160, 192), "default_cfg"),
    "flattened": (
        # The stem speaks of 32, the linear layer of 16: what runs is what holds.
        lambda: nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.Flatten(), nn.Linear(512, 2)),
        (16, 16),
        "",
    ),
}  # fmt: skip


def fed(model: nn.Module, **words: object) -> Feed:
    model.eval()
    forward = Forward(model, torch.device("cpu"))
    return feed_for(model, forward, Feeding(**words))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", LIKELY)
def test_what_the_layers_speak_of(name: str) -> None:
    """As the training's images were, where that matters; with what says so."""
    build, size, why = LIKELY[name]
    feed = fed(build(), as_trained=True)
    assert feed.guessed
    assert feed.batches[0].args[0].shape[2:] == size
    assert why in feed.guessed_from
    assert bool(feed.guessed_from) == bool(why)


def test_mechanics_take_a_cheap_size() -> None:
    """Where the size does not matter a stem's hint does not make each forward dear."""
    feed = fed(Pooled(nn.Conv2d(3, 8, 7, 2, 3)))
    assert feed.batches[0].args[0].shape[2:] == (64, 64)
    assert not feed.guessed_from


def test_what_is_stated_comes_first() -> None:
    """Attributes of the model, its configuration and its parts, in words that say where."""
    model = Configured(nn.Conv2d(3, 8, 7, 2, 3))
    model.img_size = [96, 128]
    model[0].image_size = 48
    assert [(s.height, s.width, s.why) for s in stated_sizes(model)] == [
        (96, 128, "the model's img_size"),
        (48, 48, "the model's 0.image_size"),
        (160, 192, "the model's default_cfg, input_size"),
    ]
    assert fed(model).batches[0].args[0].shape[2:] == (96, 128)


def test_no_image_no_size() -> None:
    assert list(likely_sizes(nn.Sequential(nn.Linear(3, 2)))) == []
    feed = fed(nn.Sequential(nn.Linear(13, 2)), as_trained=True)
    assert feed.guessed
    assert not feed.guessed_from


def test_the_users_shape_is_no_guess() -> None:
    feed = fed(Pooled(nn.Conv2d(3, 8, 7, 2, 3)), shapes=("3x20x20",), as_trained=True)
    assert not feed.guessed
    assert not feed.guessed_from
    assert feed.batches[0].args[0].shape[2:] == (20, 20)


@pytest.mark.parametrize(
    ("files", "size", "why"),
    [
        ({"config.json": {"image_size": 384}}, (384, 384), "config.json, image_size"),
        ({"config.json": {"vision_config": {"image_size": [56, 64]}}}, (56, 64), "vision_config"),
        (
            {"config.json": {"pretrained_cfg": {"input_size": [3, 160, 160]}}},
            (160, 160),
            "config.json, pretrained_cfg.input_size",
        ),
        (
            {"preprocessor_config.json": {"size": {"shortest_edge": 72}}},
            (72, 72),
            "preprocessor_config.json, size",
        ),
        (
            {
                "preprocessor_config.json": {
                    "size": 256, "do_center_crop": True, "crop_size": {"height": 200, "width": 240},
                },
                "config.json": {"image_size": 32},
            },
            (200, 240),
            "crop_size",
        ),
    ],
)  # fmt: skip
def test_files_beside_the_weights(
    files: dict[str, object], size: tuple[int, int], why: str, tmp_path: Path
) -> None:
    """Of Hugging Face's and timm's folders, named as the folder or as the weights in it."""
    for name, entries in files.items():
        (tmp_path / name).write_text(json.dumps(entries))
    for target in (tmp_path, tmp_path / "model.safetensors", tmp_path / "pytorch_model.bin"):
        found = size_beside(str(target))
        assert found is not None
        assert (found.height, found.width) == size
        assert why in found.why
    assert size_beside(str(tmp_path / "other.pt")) is None  # another model's


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"image_size": "large"}', '{"image_size": 1e9}', '{"image_size": true}',
             '{"image_size": [3, -1, 5]}', '{"vision_config": 5}', '{"image_size": []}'],
)  # fmt: skip
def test_a_damaged_or_odd_configuration_says_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    assert size_beside(str(tmp_path / "model.safetensors")) is None


def test_sizes_in_words_are_shapes() -> None:
    assert str(LikelySize(224, 192, "")) == "224x192"
    assert sides_of((3, 224, 192)) == (224, 192)


class Bare(nn.Module):
    """A batch norm that is left with one place by a small image, and with more by a large one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 32, 1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).mean((2, 3))


class Small(Bare):
    """The same, whose own size is one at which the norm has one place."""

    image_size = 32


def test_a_guess_is_said_and_convicts_of_nothing() -> None:
    """On the text what it rests on; one place a channel at a guessed size is no finding."""
    report = normcheck.scan(Small())
    assert "a shape guessed from the model's image_size" in " ".join(str(report).split())
    assert "NC304" not in {f.rule for f in report.findings}
    given = normcheck.scan(Small(), input_shape="3x32x32")
    assert "NC304" in {f.rule for f in given.findings}
    assert "guessed" not in str(given)


def test_the_configuration_beside_a_file_is_used(tmp_path: Path) -> None:
    """Through the whole scan, where the model is made by a factory."""
    torch.save(Bare().state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps({"image_size": 96}))
    report = normcheck.scan(tmp_path / "pytorch_model.bin", model=Bare)
    text = " ".join(str(report).split())
    assert "3x96x96, a shape guessed from config.json, image_size" in text
    assert json.loads(report.to_json())["models"][0]["run"]["fed"]["guessed_from"]
