"""What of an ONNX model is known without running it: stored tensors, numbers, lengths."""

from math import prod

from normcheck.errors import UnreadableError
from normcheck.formats.onnx.flattened_graph import Call, Flat
from normcheck.formats.onnx.onnx_computed import dequantised, of_numbers
from normcheck.saved.tensors import TensorRef

_FEW = 64
"""Elements of a tensor that is looked at for numbers: axes, shapes, bounds."""
_VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
_FOLDED = frozenset({"Shape", "Size", "Range", "Add", "Sub"})
_COPIES = frozenset({"Identity", "Cast", "CastLike"})


class KnownValues:
    """Values by name, as far as the file gives them."""

    def __init__(self, flat: Flat) -> None:
        """Index the stored tensors, and what only copies or reshapes them."""
        self.tensors: dict[str, TensorRef] = {**flat.initialisers, **flat.constants}
        self.shapes = flat.shapes
        self.inputs = frozenset(flat.inputs)
        """Values that whoever runs the model gives."""
        self._numbers: dict[str, tuple[float, ...] | None] = dict(flat.numbers)
        self._origins: dict[str, str] = {}
        self._lengths: dict[str, int] = {}
        """Of values that are shapes: how many dimensions."""
        for name, numbers in flat.numbers.items():
            if len(numbers) > 1:
                self.tensors.setdefault(name, of_numbers(name, numbers))
        for call in flat.calls:
            made = dequantised(call, self.tensors)
            if made is not None:
                self.tensors[call.outputs[0]] = made
                continue
            self._fold(call)
            if not call.inputs or not call.outputs or call.domain:
                continue
            source, result = self.origin(call.inputs[0]), call.outputs[0]
            if source not in self.tensors and self.numbers(source) is None:
                continue
            if call.op_type in _COPIES and self.numbers(source) is not None:
                self._numbers.setdefault(result, self.numbers(source))
            if call.op_type == "Identity" and source in self.tensors:
                # Exporters store equal tensors once, and leave the names of the others so.
                self.tensors[result] = self.tensors[source]
            elif call.op_type in _VIEWS | _COPIES and source in self.tensors:
                self._origins[result] = source

    def _fold(self, call: Call) -> None:
        """Lengths and axes that the standard's own functions work out from a shape."""
        if call.domain or not call.outputs or call.op_type not in _FOLDED:
            return
        if call.op_type == "Shape":
            shape = self.shape(call.inputs[0]) if call.inputs else None
            if shape is not None and call.attributes.keys() <= {"start", "end"}:
                start, end = whole_of(call, "start", 0), whole_of(call, "end", len(shape))
                lengths = shape[start:end]
                self._lengths[call.outputs[0]] = len(lengths)
                if None not in lengths:
                    known = tuple(float(n) for n in lengths if n is not None)
                    self._numbers.setdefault(call.outputs[0], known)
            return
        if call.op_type == "Size":
            rank = self._lengths.get(call.inputs[0]) if call.inputs else None
            if rank is not None:
                self._numbers.setdefault(call.outputs[0], (float(rank),))
            return
        given = [self.scalar(value) for value in call.inputs]
        numbers = [n for n in given if n is not None]
        if len(numbers) < len(given):
            return
        if call.op_type == "Range" and len(numbers) == 3:
            first, last, step = numbers
            if step == 1 and 0 <= last - first <= _FEW:
                found = tuple(first + i for i in range(int(last - first)))
                self._numbers.setdefault(call.outputs[0], found)
        elif len(numbers) == 2 and call.op_type in ("Add", "Sub"):
            sign = 1 if call.op_type == "Add" else -1
            self._numbers.setdefault(call.outputs[0], (numbers[0] + sign * numbers[1],))

    def origin(self, value: str) -> str:
        """The stored tensor that a value is another shape or type of; itself if none."""
        return self._origins.get(value, value)

    def shape(self, value: str) -> tuple[int | None, ...] | None:
        """Lengths of a value, as far as the file says."""
        tensor = self.tensors.get(value)
        return tensor.shape if tensor is not None else self.shapes.get(value)

    def numbers(self, value: str) -> tuple[float, ...] | None:
        """A stored value of few elements; None for what is not known."""
        if value not in self._numbers:
            self._numbers[value] = _read(self.tensors.get(value))
        return self._numbers[value]

    def scalar(self, value: str) -> float | None:
        """A stored value of one element."""
        numbers = self.numbers(value)
        return numbers[0] if numbers is not None and len(numbers) == 1 else None

    def integers(self, value: str) -> tuple[int, ...] | None:
        """A stored list of lengths or axes."""
        numbers = self.numbers(value)
        if numbers is None or not all(n == n // 1 and abs(n) < 1 << 53 for n in numbers):
            return None
        return tuple(int(n) for n in numbers)

    def constant(self, value: str, number: float) -> bool:
        """Whether every element of a stored value is ``number``."""
        tensor = self.tensors.get(self.origin(value))
        if tensor is None or not tensor.readable or not 0 < tensor.numel < _MANY:
            return False
        return bool((tensor.values() == number).all())


_MANY = 1 << 20
"""Elements of what is looked at for being all ones or zeros: channels of a norm."""


def _read(tensor: TensorRef | None) -> tuple[float, ...] | None:
    if tensor is None or not tensor.readable or not 0 < prod(tensor.shape) <= _FEW:
        return None
    if tensor.dtype.name.startswith("complex"):
        return None
    try:
        return tuple(float(n) for n in tensor.values().reshape(-1))
    except UnreadableError:
        return None  # a file beside it that went away; whoever needs the values says so


def number_of(call: Call, name: str, default: float | None = None) -> float | None:
    """An attribute that is a number."""
    value = call.attributes.get(name, default)
    return value if isinstance(value, int | float) else default


def whole_of(call: Call, name: str, default: int) -> int:
    """An attribute that is an integer."""
    value = call.attributes.get(name)
    return value if isinstance(value, int) else default


def input_of(call: Call, position: int) -> str:
    """The input at a position; empty where it is left out."""
    return call.inputs[position] if position < len(call.inputs) else ""


def rounded(number: float | None) -> float | None:
    """A number that was written in single precision, as the source had it: 1e-05."""
    return None if number is None else float(f"{number:.7g}")
