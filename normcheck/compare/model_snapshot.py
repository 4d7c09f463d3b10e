"""One model of one checkpoint, reduced to what is compared; its file can be closed then."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import field, replace

from normcheck.compare.hyperparameters import Hyperparameters, hyperparameters_of
from normcheck.compare.tensor_names import aligned, module_paths
from normcheck.compare.weight_sample import Sample, comparable, limit_for, samples
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.anatomy import Anatomy
from normcheck.norms.belonging.structure.weights_beside import weights_beside
from normcheck.norms.find_norms import anatomy_of
from normcheck.norms.layer import NormLayer
from normcheck.saved.checkpoint import SavedModel
from normcheck.saved.tensors import TensorRef

_BUFFER = re.compile(
    r"""(^|\.)(
        running_\w+ | num_batches_tracked            # of norms
      | n_averaged                                   # of averaged models
      | embed_avg | cluster_size | ema_\w+           # of vector quantizers
      | \w*(activation_post_process|fake_quant)\w*\..+   # of quantization observers
    )$""",
    re.VERBOSE,
)
"""Tensors that a forward pass in train mode changes without an optimizer."""
_PARAMETRIZED = re.compile(r"\.parametrizations\..+\._[uv]$")
_POWER_ITERATION = re.compile(r"_[uv]$")
_AFFINE = frozenset({"weight", "bias", "gamma", "beta", "scale", "offset"})


@lazy_dataclass(eq=False)
class Snapshot:
    """What is kept of one model; memory goes with its norms and the sampling budget."""

    anatomy: Anatomy
    """Its paths are those of the comparison's first file."""
    layers: Mapping[str, NormLayer]
    weights: Mapping[str, Sample]
    """Of everything that is learned outside norms, by name in the first file."""
    beside: Mapping[str, str]
    """Path of a norm to that of the layer before it."""
    shapes: Mapping[str, tuple[int, ...]]
    limit: int
    common: int
    """Tensors that the first file has too."""
    prefixed: bool
    """Whether names had to be changed to fit those of the first file."""
    hyperparameters: Mapping[str, Hyperparameters] = field(default_factory=dict)
    """Of every layer that the file tells something of, by its path in the first file."""

    @property
    def values(self) -> int:
        """Weights outside norms that the file holds."""
        return sum(sampled.numel for sampled in self.weights.values())

    @property
    def values_read(self) -> int:
        """Those that were read."""
        return sum(int(sampled.values.size) for sampled in self.weights.values())

    @property
    def floating(self) -> str:
        """The element type of most of what is learned."""
        types = Counter[str]()
        for sampled in self.weights.values():
            types[sampled.dtype.name] += sampled.numel
        if not types:
            types.update(n.weight.dtype.name for n in self.layers.values() if n.weight)
        return types.most_common(1)[0][0] if types else ""


def snapshot(model: SavedModel, first: Snapshot | None) -> Snapshot:
    """Read what is compared of one model.

    Args:
        model: Of a file that is open.
        first: Of the comparison's first file, whose names and sampling are kept to.

    Raises:
        UnreadableError: The file ends early.
    """
    shapes = {name: tensor.shape for name, tensor in model.tensors.items()}
    names = aligned(shapes, first.shapes) if first else {name: name for name in shapes}
    limit = first.limit if first else limit_for(model.tensors)
    anatomy = anatomy_of(model, judge_links=False)
    paths = _paths(anatomy, names)
    norms = {layer.path for layer in anatomy.layers}
    parameters = _parameters(model)
    learned = {
        new: tensor
        for old, new in names.items()
        if comparable(tensor := model.tensors[old])
        and (parameters is None or old in parameters)
        and _is_learned(old, tensor, model, norms)
    }
    moved = tuple(replace(layer, path=paths[layer.path]) for layer in anatomy.layers)
    beside = weights_beside(model, anatomy.layers)
    module_names = {old.rpartition(".")[0]: new.rpartition(".")[0] for old, new in names.items()}
    settings = hyperparameters_of(model, anatomy)
    called = module_paths(settings, module_names)
    return Snapshot(
        anatomy=replace(anatomy, layers=moved),
        layers={layer.path: layer for layer in moved},
        weights=samples(learned, limit),
        # A norm under several names is a layer under the first of them.
        beside={
            paths[norm]: module_names.get(path, path)
            for norm, path in beside.items()
            if norm in paths
        },
        shapes={names[old]: shape for old, shape in shapes.items() if old in names},
        limit=limit,
        common=sum(
            bool(shapes[old]) and first.shapes.get(new) == shapes[old] for old, new in names.items()
        )
        if first
        else 0,
        prefixed=any(old != new for old, new in names.items()),
        hyperparameters={called[path]: values for path, values in settings.items()},
    )


def _paths(anatomy: Anatomy, names: Mapping[str, str]) -> dict[str, str]:
    """Paths of norms in the first file, told from the names of their tensors."""
    found = {old.rpartition(".")[0]: new.rpartition(".")[0] for old, new in names.items()}
    return {layer.path: found.get(layer.path, layer.path) for layer in anatomy.layers}


def _parameters(model: SavedModel) -> frozenset[str] | None:
    """Names of all parameters, which a module tree knows; None for a state dict."""
    if model.modules is None:
        return None
    return frozenset(
        f"{path}.{name}".lstrip(".")
        for record in model.modules
        for path in (record.path, *record.aliases)
        for name in record.parameters
    )


def _is_learned(name: str, tensor: TensorRef, model: SavedModel, norms: set[str]) -> bool:
    """Whether only an optimizer changes a tensor, and it is no norm's own."""
    path, _, leaf = name.rpartition(".")
    if _BUFFER.search(name) or _PARAMETRIZED.search(name):
        return False
    if _POWER_ITERATION.search(leaf) and f"{name[:-2]}_orig" in model.tensors:
        return False  # of a spectral norm; a weight norm's weight_v has no weight_orig beside it
    if path in norms and leaf in _AFFINE:
        # The weight of a fused convolution lies where γ lies elsewhere.
        return tensor.ndim > 1 and f"{path}.running_mean".lstrip(".") in model.tensors
    return True
