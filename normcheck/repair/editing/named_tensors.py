"""All tensors of a saved model by name."""

from normcheck.saved.checkpoint import SavedModel
from normcheck.saved.tensors import TensorRef


def joined(path: str, name: str) -> str:
    """The name of a tensor of a module."""
    return f"{path}.{name}" if path else name


def all_tensors(saved: SavedModel) -> dict[str, TensorRef]:
    """The model's tensors by name, those of modules outside of the registered ones included."""
    found = dict(saved.tensors)
    for record in saved.modules or ():
        for name, ref in record.buffers.items():
            if ref is not None and name not in record.non_persistent:
                found.setdefault(joined(record.path, name), ref)
    return found
