"""An ONNX file as a module that can be probed; onnxruntime runs it."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree

from normcheck.live.input_shape import Shape
from normcheck.live.loading.onnx_session import OnnxModel


class OnnxModule(nn.Module):
    """Tensors in, tensors out, by name; it has no modules, parameters or modes of its own."""

    fixed_mode = True

    def __init__(self, path: str, *, optimised: bool = False) -> None:
        """Open a session on ``path``."""
        super().__init__()
        self._path = path
        self._model = OnnxModel(path, optimised=optimised)
        self.known_inputs = _shapes(self._model)
        sizes = {entry.shape[0] for entry in self._model.inputs if entry.shape}
        size = sizes.pop() if len(sizes) == 1 else None
        self.fixed_batch = size if isinstance(size, int) and size > 0 else None

    def as_deployed(self) -> "OnnxModule":
        """The same file at the optimisation level that ONNX Runtime has by default."""
        return OnnxModule(self._path, optimised=True)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The outputs by name."""
        given, _ = _pytree.tree_flatten((args, kwargs))
        if len(given) != len(self._model.inputs):
            raise TypeError(f"it takes {len(self._model.inputs)} inputs, {len(given)} were given")
        arrays = {
            entry.name: np.ascontiguousarray(
                value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value),
                dtype=entry.dtype,
            )
            for entry, value in zip(self._model.inputs, given, strict=True)
        }
        results = self._model.run(arrays)
        return {
            name: torch.from_numpy(np.array(result))
            for name, result in zip(self._model.outputs, results, strict=True)
            if isinstance(result, np.ndarray) and result.dtype.kind in "fiub"
        }


def _shapes(model: OnnxModel) -> list[Shape] | None:
    """Shapes of the inputs without the batch; None where a length may vary."""
    shapes = []
    for entry in model.inputs:
        if not entry.shape or not all(isinstance(n, int) and n > 0 for n in entry.shape[1:]):
            return None
        kind = np.dtype(entry.dtype).kind
        dtype = "long" if kind in "iu" else ("bool" if kind == "b" else "float")
        shapes.append(Shape(tuple(n for n in entry.shape[1:] if n is not None), dtype))
    return shapes
