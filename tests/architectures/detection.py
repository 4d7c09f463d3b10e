"""Object detectors."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from .convolutional import Bottleneck, ResNet
from .norms import FrozenBatchNorm2d, L2Norm
from .registry import architecture, floats


class IntermediateLayerGetter(nn.ModuleDict):
    """The children of a backbone up to its last stage."""

    def __init__(self, model: nn.Module, returned: tuple[str, ...]) -> None:
        super().__init__(
            {name: child for name, child in model.named_children() if name not in ("avgpool", "fc")}
        )
        self.returned = returned

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for name, layer in self.items():
            x = layer(x)
            if name in self.returned:
                found.append(x)
        return found


class FeaturePyramid(nn.Module):
    """torchvision's FPN, without norms."""

    def __init__(self, widths: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.inner_blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(w, outputs, 1)) for w in widths)
        self.layer_blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(outputs, outputs, 3, padding=1)) for _ in widths
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        inner = [block(x) for block, x in zip(self.inner_blocks, features, strict=True)]
        for i in range(len(inner) - 1, 0, -1):
            inner[i - 1] = inner[i - 1] + functional.interpolate(
                inner[i], size=inner[i - 1].shape[-2:]
            )
        return [block(x) for block, x in zip(self.layer_blocks, inner, strict=True)]


class BackboneWithFPN(nn.Module):
    """``body`` and ``fpn``."""

    def __init__(self) -> None:
        super().__init__()
        backbone = ResNet(Bottleneck, FrozenBatchNorm2d)
        self.body = IntermediateLayerGetter(backbone, ("layer1", "layer2"))
        self.fpn = FeaturePyramid((32, 48), 12)

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.fpn(self.body(x))


class RPNHead(nn.Module):
    """Objectness and boxes of the anchors."""

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1)))
        self.cls_logits = nn.Conv2d(channels, anchors, 1)
        self.bbox_pred = nn.Conv2d(channels, 4 * anchors, 1)

    def forward(self, features: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        hidden = [functional.relu(self.conv(x)) for x in features]
        return [(self.cls_logits(x), self.bbox_pred(x)) for x in hidden]


class FasterRCNN(nn.Module):
    """The learned parts of a Faster R-CNN, without its boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = BackboneWithFPN()
        self.rpn = nn.ModuleDict({"head": RPNHead(12, 3)})
        self.roi_heads = nn.ModuleDict(
            {
                "box_head": nn.ModuleDict({"fc6": nn.Linear(12, 16), "fc7": nn.Linear(16, 16)}),
                "box_predictor": nn.ModuleDict(
                    {"cls_score": nn.Linear(16, 3), "bbox_pred": nn.Linear(16, 12)}
                ),
            }
        )

    def forward(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        return self.rpn["head"](self.backbone(x))


@architecture(floats(2, 3, 32, 32))
def faster_rcnn_frozen() -> nn.Module:
    """A detector whose backbone has statistics and no num_batches_tracked."""
    return FasterRCNN()


class SSD(nn.Module):
    """SSD300's head on a VGG, with the scaled L2 norm after conv4_3."""

    def __init__(self) -> None:
        super().__init__()
        self.vgg = nn.ModuleList([nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1)])
        self.L2Norm = L2Norm(8, 20.0)
        self.loc = nn.ModuleList([nn.Conv2d(8, 16, 3), nn.Conv2d(12, 16, 3)])
        self.conf = nn.ModuleList([nn.Conv2d(8, 12, 3), nn.Conv2d(12, 12, 3)])

    def forward(self, x: Tensor) -> list[Tensor]:
        first = self.vgg[1](self.vgg[0](x))
        sources = [self.L2Norm(first), self.vgg[2](first)]
        heads = (*self.loc, *self.conf)
        return [head(source) for head, source in zip(heads, sources + sources, strict=True)]


@architecture(floats(2, 3, 24, 24))
def ssd_l2norm() -> nn.Module:
    return SSD()


class Conv(nn.Module):
    """YOLOv5's convolution."""

    def __init__(self, inputs: int, outputs: int, size: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001, momentum=0.03)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class YoloBottleneck(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.cv1 = Conv(dim, dim, 1)
        self.cv2 = Conv(dim, dim, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.cv2(self.cv1(x))


class C3(nn.Module):
    """Cross-stage partial block."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.cv1 = Conv(inputs, outputs // 2)
        self.cv2 = Conv(inputs, outputs // 2)
        self.cv3 = Conv(outputs, outputs)
        self.m = nn.Sequential(YoloBottleneck(outputs // 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


class Detect(nn.Module):
    """The head, with its anchors as a buffer."""

    anchors: Tensor

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.register_buffer("anchors", torch.rand(1, 3, 2))
        self.m = nn.ModuleList([nn.Conv2d(inputs, 21, 1)])

    def forward(self, x: Tensor) -> Tensor:
        return self.m[0](x)


class DetectionModel(nn.Module):
    """Everything in the Sequential ``model``."""

    def __init__(self) -> None:
        super().__init__()
        layers = (Conv(3, 8, 6, 2), Conv(8, 12, 3, 2), C3(12, 12), Conv(12, 16, 3, 2), Detect(16))
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


@architecture(floats(2, 3, 32, 32))
def yolo_v5() -> nn.Module:
    return DetectionModel()


class Darknet(nn.Module):
    """YOLOv3 from a Darknet file: every layer is named after its kind and its number."""

    def __init__(self) -> None:
        super().__init__()
        self.module_list = nn.ModuleList()
        width = 3
        for i, planes in enumerate((8, 12, 16)):
            layer = nn.Sequential()
            layer.add_module(f"conv_{i}", nn.Conv2d(width, planes, 3, 2, 1, bias=False))
            layer.add_module(f"batch_norm_{i}", nn.BatchNorm2d(planes, momentum=0.1, eps=1e-5))
            layer.add_module(f"leaky_{i}", nn.LeakyReLU(0.1))
            self.module_list.append(layer)
            width = planes
        self.module_list.append(nn.Sequential())
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        for module in self.module_list:
            x = module(x)
        return x


@architecture(floats(2, 3, 32, 32))
def yolo_v3_darknet() -> nn.Module:
    return Darknet()


class Scale(nn.Module):
    """FCOS's learned factor of one level: a 1-D parameter of one element."""

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([value]))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class FCOSHead(nn.Module):
    """Towers of convolution, GroupNorm and ReLU, and a factor per level."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.cls_tower = self._tower(dim)
        self.bbox_tower = self._tower(dim)
        self.cls_logits = nn.Conv2d(dim, 5, 3, padding=1)
        self.bbox_pred = nn.Conv2d(dim, 4, 3, padding=1)
        self.scales = nn.ModuleList([Scale(1.0) for _ in range(2)])

    @staticmethod
    def _tower(dim: int) -> nn.Sequential:
        layer = partial(nn.Conv2d, dim, dim, 3, padding=1)
        return nn.Sequential(
            layer(), nn.GroupNorm(4, dim), nn.ReLU(), layer(), nn.GroupNorm(4, dim), nn.ReLU()
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        boxes = self.bbox_pred(self.bbox_tower(x))
        return [
            self.cls_logits(self.cls_tower(x)),
            *(functional.relu(s(boxes)) for s in self.scales),
        ]


@architecture(floats(2, 8, 8, 8))
def fcos_head() -> nn.Module:
    return FCOSHead(8)


class DETR(nn.Module):
    """A frozen backbone under a transformer with a norm after its decoder."""

    def __init__(self) -> None:
        super().__init__()
        dim = 16
        body = IntermediateLayerGetter(ResNet(Bottleneck, FrozenBatchNorm2d), ("layer2",))
        self.backbone = nn.Sequential(nn.ModuleDict({"body": body}))
        self.input_proj = nn.Conv2d(48, dim, 1)
        self.transformer = nn.Transformer(dim, 2, 1, 1, 32, 0.0, batch_first=True)
        self.query_embed = nn.Embedding(5, dim)
        self.class_embed = nn.Linear(dim, 4)

    def forward(self, x: Tensor) -> Tensor:
        features = self.backbone[0].get_submodule("body")(x)[0]
        memory = self.input_proj(features).flatten(2).transpose(1, 2)
        queries = self.query_embed.weight.expand(len(x), -1, -1)
        return self.class_embed(self.transformer(memory, queries))


@architecture(floats(2, 3, 32, 32))
def detr() -> nn.Module:
    return DETR()
