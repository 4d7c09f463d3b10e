"""The vectors that spectral normalization keeps beside its weights."""

from collections.abc import Iterator, Mapping

import numpy as np

from normcheck.norms.layer import Floats, PowerIteration, Values
from normcheck.norms.layer_numbers import read_values
from normcheck.saved.checkpoint import SavedModel
from normcheck.saved.prefetch import fetch_ahead
from normcheck.saved.tensors import TensorRef

_FEWEST_ROWS = 8
"""Length of u below which a random one may well lie along the weight's."""
_MOST_VALUES = 1 << 22
_MOST_WEIGHTS = 8
"""Elements of a weight, and weights of one model, that are read: they share a history."""


def power_iterations(model: SavedModel) -> Iterator[PowerIteration]:
    """Vectors of ``spectral_norm``, old (``weight_u``) and as a parametrization (``_u``)."""
    vectors: dict[str, dict[str, TensorRef]] = {}
    for name in model.tensors:
        if not name.endswith(("_u", "_v")) or (tensor := model.tensors[name]).ndim != 1:
            continue
        path, _, leaf = name.rpartition(".")
        if (leaf in ("_u", "_v") and ".parametrizations." in f".{path}.") or (
            leaf.endswith(("_u", "_v")) and f"{path}.{leaf[:-2]}_orig".lstrip(".") in model.tensors
        ):
            vectors.setdefault(path, {})[leaf] = tensor
    fetch_ahead(tensor for named in vectors.values() for tensor in named.values())
    left = _MOST_WEIGHTS
    for path, named in vectors.items():
        with np.errstate(invalid="ignore"):  # signalling NaNs warn when they are widened
            read = {leaf: read_values(tensor, leaf, {}) for leaf, tensor in named.items()}
        known = {leaf: v for leaf, v in read.items() if v is not None}
        follows = _follows(model, path, known) if left else None
        left -= follows is not None
        yield PowerIteration(path, known, follows)


def _follows(model: SavedModel, path: str, vectors: Mapping[str, Values]) -> float | None:
    """The cosine between u and the weight's matrix times v; None where that cannot be told."""
    u, v = (next((x for n, x in vectors.items() if n.endswith(end)), None) for end in ("_u", "_v"))
    weight = model.tensors.get(_weight_of(path, next(iter(vectors), "")))
    if u is None or v is None or weight is None or u.size < _FEWEST_ROWS:
        return None
    if not weight.readable or weight.numel > _MOST_VALUES or weight.numel != u.size * v.size:
        return None
    values = np.asarray(weight.values(), dtype=np.float64)
    # Its rows are the outputs, which a transposed convolution has on its second axis.
    found = [
        _cosine(u.numbers, np.moveaxis(values, axis, 0).reshape(u.size, v.size) @ v.numbers)
        for axis in (0, 1)
        if values.ndim > axis and values.shape[axis] == u.size
    ]
    return max(found, key=abs) if found else None


def _weight_of(path: str, leaf: str) -> str:
    if leaf in ("_u", "_v"):
        return f"{path.rpartition('.')[0]}.original"
    return f"{path}.{leaf[:-2]}_orig".lstrip(".")


def _cosine(a: Floats, b: Floats) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
        return float(a @ b) / lengths if 0 < lengths < np.inf else 0.0
