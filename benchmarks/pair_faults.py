"""What goes wrong between a model and its export, put into the model that the export came from.

An export of the untouched model is then held against the touched one: the two differ by exactly
one fault. Two faults (a norm that was dropped, an export in train mode) are put into the export.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

Convolution = nn.modules.conv._ConvNd  # noqa: SLF001  (the one base of all)
Tracked = nn.modules.batchnorm._NormBase  # noqa: SLF001
Named = tuple[str, ...]
Touch = Callable[[nn.Module, "Layers"], Named | None]
"""Changes a model in place. What a report has to name, any of it; None where nothing of the kind
is in the model."""


@dataclass(frozen=True, slots=True)
class Layers:
    """The layers of a model that a forward pass reaches, by path."""

    norms: dict[str, nn.Module]
    """With statistics or parameters."""
    tracked: dict[str, Tracked]
    """Those that normalise by running statistics in eval mode."""
    weighted: dict[str, nn.Module]
    """Convolutions and linear layers."""
    others: dict[str, nn.Module]


def layers_of(model: nn.Module, run: Callable[[], object]) -> Layers:
    """Which layers a forward pass reaches."""
    reached: set[int] = set()
    hooks = [
        module.register_forward_hook(lambda m, *_: reached.add(id(m))) for module in model.modules()
    ]
    run()
    for hook in hooks:
        hook.remove()
    found = {path: m for path, m in model.named_modules() if id(m) in reached and path}
    weighted = {
        path: module
        for path, module in found.items()
        if isinstance(module, nn.Linear | Convolution)
    }
    norms = {
        path: module
        for path, module in found.items()
        if path not in weighted
        and not any(True for _ in module.children())
        and "norm" in type(module).__name__.lower()
        and isinstance(getattr(module, "weight", None), nn.Parameter)
        and module.weight.ndim == 1  # type: ignore[union-attr]
    }
    tracked = {
        path: module
        for path, module in norms.items()
        if isinstance(module, Tracked) and module.running_var is not None
    }
    others = {path: m for path, m in found.items() if path not in weighted and path not in norms}
    return Layers(norms, tracked, weighted, others)


def middle(found: dict[str, nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """The layers, from the middle of the model outward."""
    order = list(found.items())
    centre = len(order) // 2
    yield from sorted(order, key=lambda item: abs(order.index(item) - centre))


def put_in_its_place(model: nn.Module, module: nn.Module, other: nn.Module) -> None:
    """Under every name that it has: nnU-Net calls its layers by a second list of them."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):  # noqa: SLF001  (of duplicates, too)
            if child is module:
                setattr(parent, name, other)


def _tracked(layers: Layers) -> tuple[str, Tracked] | None:
    return next(middle(layers.tracked), None)  # type: ignore[arg-type, return-value]


def mean_shifted(_: nn.Module, layers: Layers) -> Named | None:
    """Half a standard deviation, in one layer."""
    if (found := _tracked(layers)) is None:
        return None
    path, norm = found
    norm.running_mean += 0.5 * norm.running_var.sqrt()  # type: ignore[operator, union-attr]
    return (path,)


def variance_doubled(_: nn.Module, layers: Layers) -> Named | None:
    """In one layer."""
    if (found := _tracked(layers)) is None:
        return None
    path, norm = found
    norm.running_var *= 2  # type: ignore[operator]
    return (path,)


def statistics_lost(_: nn.Module, layers: Layers) -> Named | None:
    """0 and 1 in all layers."""
    if not layers.tracked:
        return None
    for norm in layers.tracked.values():
        norm.reset_running_stats()
    return tuple(layers.tracked)


def channels_permuted(_: nn.Module, layers: Layers) -> Named | None:
    """Of the statistics of one layer."""
    if (found := _tracked(layers)) is None:
        return None
    path, norm = found
    order = torch.roll(torch.arange(norm.num_features), 1)
    for name in ("running_mean", "running_var"):
        getattr(norm, name).copy_(getattr(norm, name)[order].clone())
    return (path,)


def gamma_scaled(_: nn.Module, layers: Layers) -> Named | None:
    """By a quarter, in one layer."""
    if not layers.norms:
        return None
    path, norm = next(middle(layers.norms))
    norm.weight.mul_(1.25)  # type: ignore[operator, union-attr]
    return (path,)


def beta_shifted(_: nn.Module, layers: Layers) -> Named | None:
    """By 0.2, in one layer."""
    shifted = {
        path: norm for path, norm in layers.norms.items() if getattr(norm, "bias", None) is not None
    }
    if not shifted:
        return None
    path, norm = next(middle(shifted))
    norm.bias.add_(0.2)  # type: ignore[operator, union-attr]
    return (path,)


def eps_changed(_: nn.Module, layers: Layers) -> Named | None:
    """A hundred times as large, in all layers that have one."""
    touched = []
    for path, norm in layers.norms.items():
        for name in ("eps", "variance_epsilon"):
            if isinstance(value := getattr(norm, name, None), float):
                setattr(norm, name, 100 * value)
                touched.append(path)
    return tuple(touched) or None


def activation_replaced(model: nn.Module, layers: Layers) -> Named | None:
    """ReLU by SiLU, or the other way round, in one place."""
    for path, module in middle(layers.others):
        if isinstance(module, nn.ReLU | nn.ReLU6 | nn.SiLU | nn.GELU | nn.Hardswish | nn.LeakyReLU):
            other = nn.ReLU() if not isinstance(module, nn.ReLU) else nn.SiLU()
            put_in_its_place(model, module, other)
            return (path,)
    return None


def grouping_changed(_: nn.Module, layers: Layers) -> Named | None:
    """Groups of a group norm, or the dilation of a convolution, in one layer."""
    for path, module in middle(layers.norms):
        if isinstance(module, nn.GroupNorm) and module.num_groups > 1:
            module.num_groups = 1
            return (path,)
    for path, module in middle(layers.weighted):
        if isinstance(module, Convolution) and max(module.kernel_size) > 1:
            module.dilation = tuple(2 * step for step in module.dilation)
            return (path,)
    return None


def weights_of_another_epoch(_: nn.Module, layers: Layers) -> Named | None:
    """A tenth of their length, in one convolution or linear layer."""
    if not layers.weighted:
        return None
    path, module = next(middle(layers.weighted))
    weight: torch.Tensor = module.weight  # type: ignore[assignment]
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(5)).to(weight.dtype)
    weight += 0.1 * noise * weight.norm() / noise.norm()
    # Where a norm was folded into it, the norm is what a report speaks of.
    block = path.rpartition(".")[0]
    return (path, *(norm for norm in layers.tracked if norm.rpartition(".")[0] == block))


def norm_dropped(model: nn.Module, layers: Layers) -> Named | None:
    """As a converter does that does not know an operator; put into the export."""
    if not layers.norms:
        return None
    path, norm = next(middle(layers.norms))
    put_in_its_place(model, norm, nn.Identity())
    return (path,)


def train_mode(model: nn.Module, layers: Layers) -> Named | None:
    """Put into the export."""
    if not layers.tracked:
        return None
    model.train()
    return tuple(layers.tracked)


SOURCE_FAULTS: dict[str, Touch] = {
    "mean shifted": mean_shifted,
    "variance doubled": variance_doubled,
    "statistics lost": statistics_lost,
    "channels permuted": channels_permuted,
    "gamma scaled": gamma_scaled,
    "beta shifted": beta_shifted,
    "eps changed": eps_changed,
    "activation replaced": activation_replaced,
    "grouping changed": grouping_changed,
    "weights of another epoch": weights_of_another_epoch,
}
EXPORT_FAULTS: dict[str, Touch] = {"norm dropped": norm_dropped, "train mode": train_mode}
NOT_IN_A_STATE_DICT = frozenset({"eps changed", "activation replaced", "grouping changed"})
"""What a state dict does not hold, so that no comparison with one can find it."""
