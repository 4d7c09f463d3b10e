"""What stands right before a norm, where that is certain: in an ``nn.Sequential``."""

from collections.abc import Iterator, Mapping

from normcheck.norms.kinds import Family
from normcheck.norms.layer import NormLayer
from normcheck.norms.weight_layout import Layout, layouts_of, possible
from normcheck.saved.checkpoint import ModuleRecord, SavedModel
from normcheck.saved.tensors import TensorRef

_SEQUENTIAL = "torch.nn.modules.container.Sequential"
_SUBTRACTS_MEAN = (Family.BATCH, Family.INSTANCE)
"""Families that take the mean of each channel away, and with it a bias before them."""
_KEEPS_MEAN = ("FilterResponseNorm", "GraphNorm")
"""Kinds of these families that take away none of it, or a learned share."""


_MOST_DIGITS = 9
"""Of a number of a module; longer ones are no places of a Sequential."""


def biases_before_norms(
    model: SavedModel, layers: tuple[NormLayer, ...]
) -> tuple[tuple[str, str], ...]:
    """Pairs of a bias's name and the path of the norm right behind it.

    In a state dict only neighbouring numbers under one parent count (``0.bias`` before
    ``1.running_mean``): behind any other pair of names an activation may stand between.
    """
    found = []
    sequentials = _sequentials(model.modules) if model.modules is not None else None
    known = layouts_of(model)
    for layer in layers:
        if layer.kind.family not in _SUBTRACTS_MEAN or layer.kind.name in _KEEPS_MEAN:
            continue
        before = place_before(layer.path)
        if before is None:
            continue
        if sequentials is not None and layer.path.rpartition(".")[0] not in sequentials:
            continue
        if _makes(model.tensors, before, layer.features, known):
            found.append((f"{before}.bias", layer.path))
    return tuple(found)


def place_before(path: str) -> str | None:
    """The path of the neighbour with the number before; None where the last name is no number."""
    parent, _, last = path.rpartition(".")
    if not last.isdecimal() or last == "0" or len(last) > _MOST_DIGITS:
        return None
    before = str(int(last) - 1)
    return f"{parent}.{before}" if parent else before


def _sequentials(modules: tuple[ModuleRecord, ...]) -> set[str]:
    return {module.path for module in modules if module.class_path == _SEQUENTIAL}


def _makes(
    tensors: Mapping[str, TensorRef],
    path: str,
    features: int | None,
    known: Mapping[str, Layout],
) -> bool:
    """Whether a linear or convolution with a bias makes so many features."""
    weight, bias = tensors.get(f"{path}.weight"), tensors.get(f"{path}.bias")
    if weight is None or bias is None or features is None or bias.shape != (features,):
        return False
    layout = known.get(f"{path}.weight")
    if layout is not None:
        return layout.outputs(weight.shape) == features
    return any(True for _ in possible(weight.shape, features))


def dropouts_before_norms(
    modules: tuple[ModuleRecord, ...] | None, layers: tuple[NormLayer, ...]
) -> Iterator[tuple[str, float, str]]:
    """Path and probability of a dropout, and the batch norm that follows it in a Sequential."""
    if modules is None:
        return
    norms = {layer.path for layer in layers if layer.kind.family is Family.BATCH}
    sequentials = _sequentials(modules)
    # The last dropout met in each Sequential; modules come in the order they run there.
    pending: dict[str, tuple[str, float]] = {}
    for module in modules:
        parent, _, _ = module.path.rpartition(".")
        if parent not in sequentials or not module.path:
            continue
        p = module.attributes.get("p")
        if module.class_name.startswith("Dropout") and isinstance(p, float) and p > 0:
            pending[parent] = (module.path, p)
        elif module.path in norms and parent in pending:
            yield (*pending.pop(parent), module.path)


_TORCH_NORMS = (
    "torch.nn.modules.batchnorm.",
    "torch.nn.modules.instancenorm.",
    "torch.nn.modules.normalization.",
)
_PASSES_THROUGH = "Identity"
_BY_HOOKS = ("torch.ao.quantization.", "torch.quantization.")
"""Where observers are from, which a hook calls that quantisation registers with them."""


def uncalled_children(
    modules: tuple[ModuleRecord, ...] | None, layers: tuple[NormLayer, ...]
) -> tuple[tuple[str, str, str], ...]:
    """Children of norms whose class is torch's own, and calls none.

    Returns:
        The norm's path, the child's path and its class, for each child that would do something.
    """
    own = {n.path for n in layers if n.class_path and n.class_path.startswith(_TORCH_NORMS)}
    if modules is None or not own:
        return ()
    return tuple(
        (parent, module.path, module.class_name)
        for module in modules
        if (parent := module.path.rpartition(".")[0]) in own
        and module.path
        and module.path != parent
        and module.registered
        and module.class_name != _PASSES_THROUGH
        and not module.class_path.startswith(_BY_HOOKS)
    )
