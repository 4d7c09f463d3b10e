"""The vectors that spectral normalization keeps beside its weights."""

from collections.abc import Iterator

from normcheck.norms.layer import PowerIteration
from normcheck.norms.layer_numbers import read_values
from normcheck.saved.checkpoint import SavedModel
from normcheck.saved.prefetch import fetch_ahead
from normcheck.saved.tensors import TensorRef


def power_iterations(model: SavedModel) -> Iterator[PowerIteration]:
    """Vectors of ``spectral_norm``, old (``weight_u``) and as a parametrization (``_u``)."""
    vectors: dict[str, dict[str, TensorRef]] = {}
    for name, tensor in model.tensors.items():
        if not name.endswith(("_u", "_v")) or tensor.ndim != 1:
            continue
        path, _, leaf = name.rpartition(".")
        if (leaf in ("_u", "_v") and ".parametrizations." in f".{path}.") or (
            leaf.endswith(("_u", "_v")) and f"{path}.{leaf[:-2]}_orig".lstrip(".") in model.tensors
        ):
            vectors.setdefault(path, {})[leaf] = tensor
    fetch_ahead(tensor for named in vectors.values() for tensor in named.values())
    for path, named in vectors.items():
        read = {leaf: read_values(tensor, leaf, {}) for leaf, tensor in named.items()}
        yield PowerIteration(path, {leaf: v for leaf, v in read.items() if v is not None})
