"""An ONNX model that runs, by ONNX Runtime, as it stands in its file."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from normcheck.errors import NormcheckError, UsageError
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.saved.dtypes import Array

_DTYPES = {
    "tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16",
    "tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(int16)": "int16",
    "tensor(int8)": "int8", "tensor(uint64)": "uint64", "tensor(uint32)": "uint32",
    "tensor(uint16)": "uint16", "tensor(uint8)": "uint8", "tensor(bool)": "bool",
    "tensor(complex64)": "complex64", "tensor(complex128)": "complex128",
}  # fmt: skip
"""Element types as ONNX Runtime writes them, by numpy's name."""
_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_FATAL = 4
"""Severity from which ONNX Runtime logs by itself; what it says below comes as an error too."""


@lazy_dataclass()
class OnnxInput:
    """What a model asks for."""

    name: str
    dtype: "np.dtype[Any] | None"
    """None for what numpy has no type for (bfloat16, strings, sequences)."""
    shape: tuple[int | None, ...]
    """None for a length that may vary."""


class OnnxModel:
    """One model on the CPU, in one thread."""

    def __init__(self, path: Path | str, *, optimised: bool = False) -> None:
        """Load the model of a file.

        Args:
            path: Of the ``.onnx`` file; external data lies beside it.
            optimised: Run it as ONNX Runtime does where nobody asks for anything else, which
                takes out and puts together operators; otherwise as it stands in the file.

        Raises:
            UsageError: ONNX Runtime is not installed.
            NormcheckError: It does not take the model.
        """
        try:
            import onnxruntime  # type: ignore[import-untyped]  # it has no types
        except ImportError as error:
            raise UsageError(
                "running an ONNX model needs onnxruntime", "pip install 'normcheck[onnx]'"
            ) from error
        options = onnxruntime.SessionOptions()
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = (
            levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
        )
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = _FATAL
        self._path = path
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # of no common class, and none that is public
            raise NormcheckError(
                f"{path}: ONNX Runtime does not load it: {_words(error)}",
                "an operator or version that it lacks, or a model that is not valid; "
                "onnx.checker.check_model may tell more",
            ) from error
        self.inputs = tuple(
            OnnxInput(given.name, _dtype(given.type), _shape(given.shape))
            for given in self._session.get_inputs()
        )
        self.outputs: tuple[str, ...] = tuple(o.name for o in self._session.get_outputs())

    def run(self, arrays: Mapping[str, Array]) -> list[Any]:
        """The outputs, in the order of ``outputs``.

        Args:
            arrays: By the names of the inputs; cast to their types.

        Returns:
            Arrays; lists or dictionaries where the model gives sequences or maps.

        Raises:
            UsageError: An input is missing, or there is none of a name.
            NormcheckError: The model fails on them.
        """
        wanted = {given.name: given for given in self.inputs}
        for name in (*arrays, *wanted):
            if name not in wanted or name not in arrays:
                what = "has no input" if name not in wanted else "is not given its input"
                raise UsageError(
                    f"{self._path}: the model {what} {name!r:.80}",
                    f"its inputs are {', '.join(wanted)}",
                )
        fed = {
            name: np.ascontiguousarray(array, dtype=wanted[name].dtype)
            for name, array in arrays.items()
        }
        # ascontiguousarray makes a list of one of what has no dimensions.
        fed = {name: value.reshape(np.shape(arrays[name])) for name, value in fed.items()}
        try:
            results: list[Any] = self._session.run(list(self.outputs), fed)
        except Exception as error:  # see above
            shapes = ", ".join(f"{n} {'×'.join(map(str, v.shape))}" for n, v in fed.items())
            raise NormcheckError(
                f"{self._path}: the model fails on {shapes}: {_words(error)}",
                "give inputs of the shapes that it was exported for (--input-shape, --data)",
            ) from error
        return results


def _dtype(name: str) -> "np.dtype[Any] | None":
    known = _DTYPES.get(name)
    return np.dtype(known) if known else None


def _shape(lengths: list[object]) -> tuple[int | None, ...]:
    return tuple(n if isinstance(n, int) and n > 0 else None for n in lengths)


def _words(error: Exception) -> str:
    """What went wrong, on one line, without the runtime's codes."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return _CODE.sub("", lines[0])[:300] if lines else type(error).__name__
