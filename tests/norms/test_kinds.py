"""The table of kinds: complete, consistent, and found by class."""

import inspect
from dataclasses import fields

import pytest
import torch
from torch import nn
from torch.nn.modules import batchnorm, instancenorm, normalization

from normcheck.norms.kinds import BY_NAME, KINDS, Family, NormKind, batch_norm, of_class

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)

TORCH = [
    value
    for module in (batchnorm, instancenorm, normalization)
    for name, value in vars(module).items()
    if inspect.isclass(value)
    and issubclass(value, nn.Module)
    and value.__module__ == module.__name__
    and not name.startswith("_")
]
"""Every norm that torch.nn defines, private base classes apart."""


def path_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def test_torch_has_the_norms_that_this_test_thinks_of() -> None:
    """The list is taken from torch; a new norm there fails the next test until it is added."""
    assert {"BatchNorm2d", "LazyInstanceNorm1d", "RMSNorm", "CrossMapLRN2d"} <= {
        cls.__name__ for cls in TORCH
    }
    assert len(TORCH) >= 18


@pytest.mark.parametrize("cls", TORCH, ids=lambda cls: cls.__name__)
def test_every_norm_of_torch_is_in_the_table(cls: type) -> None:
    """Found by its full path; a lazy one is the kind that it becomes."""
    kind = of_class(path_of(cls))
    assert kind is not None
    becomes = cls.__name__.removeprefix("Lazy")
    assert kind.name == {"CrossMapLRN2d": "LocalResponseNorm"}.get(becomes, becomes)


@every_kind
def test_every_text_is_there(kind: NormKind) -> None:
    """No column of the table is empty, or longer than a line allows."""
    for field in fields(kind):
        value = getattr(kind, field.name)
        if isinstance(value, str):
            assert value.strip() == value != "", field.name
    assert len(kind.over) <= 24
    assert len(kind.eval_uses) <= 16


@every_kind
def test_modes_are_told_consistently(kind: NormKind) -> None:
    """Kinds that are the same in both modes say so, and no others do."""
    if kind.same_in_both_modes:
        assert kind.family not in (Family.BATCH, Family.CUSTOM)
        assert kind.eval_uses in ("its own input", "stored stats")
    else:
        assert kind.train != kind.eval or kind.family is Family.CUSTOM
    updates = "updates running_mean" in kind.train
    assert updates == (kind.eval_uses == "running stats")


def test_names_and_classes_are_unique() -> None:
    """A class belongs to one kind."""
    assert len(BY_NAME) == len(KINDS)
    classes = [path for kind in KINDS for path in kind.classes]
    assert len(set(classes)) == len(classes)


def test_every_family_has_a_kind() -> None:
    """No family without a row in the table."""
    assert {kind.family for kind in KINDS} == set(Family)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("torch.nn.modules.batchnorm.BatchNorm2d", "BatchNorm2d"),
        ("torch.nn.modules.batchnorm.SyncBatchNorm", "SyncBatchNorm"),
        ("timm.layers.norm_act.BatchNormAct2d", "BatchNorm2d"),
        ("apex.parallel.optimized_sync_batchnorm.SyncBatchNorm", "SyncBatchNorm"),
        ("detectron2.layers.batch_norm.NaiveSyncBatchNorm", "SyncBatchNorm"),
        ("torchvision.ops.misc.FrozenBatchNorm2d", "FrozenBatchNorm2d"),
        ("models.backbone.FrozenBatchNorm2d", "FrozenBatchNorm2d"),
        ("timm.layers.norm.LayerNorm2d", "LayerNorm2d"),
        ("timm.layers.norm_act.GroupNormAct", "GroupNorm"),
        ("transformers.models.t5.modeling_t5.T5LayerNorm", "RMSNorm"),
        ("transformers.models.gemma.modeling_gemma.GemmaRMSNorm", "RMSNorm (1 + weight)"),
        ("transformers.models.gemma3.modeling_gemma3.Gemma3RMSNorm", "RMSNorm (1 + weight)"),
    ],
)
def test_of_class(path: str, name: str) -> None:
    """By the full path, or by a class name that says enough in any module."""
    kind = of_class(path)
    assert kind is not None
    assert kind.name == name


@pytest.mark.parametrize(
    "path",
    [
        "",
        "BatchNorm2d",
        "mine.BatchNorm2d",
        "mine.LayerNorm",
        "torch.nn.modules.batchnorm._BatchNorm",
        "torch.nn.modules.conv.Conv2d",
        "mine.NotFrozenBatchNorm2d",
    ],
)
def test_other_classes_are_not_known_by_name(path: str) -> None:
    """Somebody's own LayerNorm need not be one: its attributes tell, not its name."""
    assert of_class(path) is None


@pytest.mark.parametrize(
    ("dimensions", "name"),
    [
        (None, "BatchNorm"),
        (0, "BatchNorm1d"),
        (1, "BatchNorm1d"),
        (2, "BatchNorm2d"),
        (3, "BatchNorm3d"),
        (4, "BatchNorm"),
    ],
)
def test_batch_norm_by_dimensions(dimensions: int | None, name: str) -> None:
    """A linear layer's norm is a BatchNorm1d; more than three dimensions torch has not."""
    assert batch_norm(dimensions).name == name


def both_modes(module: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    module.train()(x)
    return module.train()(x), module.eval()(x)


LIVE = {
    "BatchNorm1d": (nn.BatchNorm1d(4), (8, 4)),
    "BatchNorm2d": (nn.BatchNorm2d(4), (8, 4, 3, 3)),
    "BatchNorm3d": (nn.BatchNorm3d(4), (8, 4, 3, 3, 3)),
    "LayerNorm": (nn.LayerNorm(4), (8, 4)),
    "GroupNorm": (nn.GroupNorm(2, 4), (8, 4, 3)),
    "InstanceNorm1d": (nn.InstanceNorm1d(4), (8, 4, 5)),
    "InstanceNorm2d": (nn.InstanceNorm2d(4), (8, 4, 3, 3)),
    "InstanceNorm3d": (nn.InstanceNorm3d(4), (8, 4, 3, 3, 3)),
    "tracking InstanceNorm": (nn.InstanceNorm1d(4, track_running_stats=True), (8, 4, 5)),
    "RMSNorm": (nn.RMSNorm(4), (8, 4)),
    "LocalResponseNorm": (nn.LocalResponseNorm(2), (8, 4, 5)),
}


@pytest.mark.parametrize("name", LIVE)
def test_the_table_tells_what_torch_does(name: str) -> None:
    """Equal outputs in both modes, and no effect of the batch in eval mode, as the table says."""
    torch.manual_seed(0)
    module, shape = LIVE[name]
    x = 3 + 2 * torch.randn(shape)
    training, evaluating = both_modes(module, x)
    assert torch.equal(training, evaluating) == BY_NAME[name].same_in_both_modes
    assert torch.allclose(module(x[:1]), evaluating[:1], atol=1e-5)
