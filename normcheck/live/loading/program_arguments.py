"""Arguments of an exported program, from the schema's JSON to what operators take."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from normcheck.errors import NormcheckError
from normcheck.formats.pt2.exported_program import SCALAR_TYPES

_MEMORY_FORMATS = {
    1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d,
    4: torch.preserve_format,
}  # fmt: skip
_STRIDED = 7

Arguments = dict[str, Any]
"""Values that exist so far, by name."""


def value_of(argument: Mapping[str, Any], values: Arguments, device: torch.device) -> Any:
    """An argument of the schema as what the operator takes."""
    ((kind, value),) = argument.items()
    match kind:
        case "as_tensor" | "as_custom_obj":
            return values[value["name"]]
        case "as_optional_tensor":
            return value_of(value, values, device)
        case "as_tensors":
            return [values[v["name"]] for v in value]
        case "as_optional_tensors":
            return [value_of(v, values, device) for v in value]
        case "as_nested_tensors":
            return [[values[v["name"]] for v in inner] for inner in value]
        case "as_none":
            return None
        case "as_float":
            return float(value)
        case "as_sym_int" | "as_sym_bool" | "as_sym_float":
            return _symbol(value, values)
        case "as_sym_ints" | "as_sym_floats" | "as_sym_bools":
            return [_symbol(v, values) for v in value]
        case "as_device":
            # Where it runs, whatever the file says of where it was exported.
            return device
        case _:
            return _option(kind, value)


def _option(kind: str, value: Any) -> Any:
    match kind:
        case "as_scalar_type":
            return getattr(torch, SCALAR_TYPES[value])
        case "as_memory_format":
            return _MEMORY_FORMATS[value]
        case "as_layout":
            if value != _STRIDED:
                raise NormcheckError("it makes tensors of a layout that is not run here")
            return torch.strided
        case _:
            return value


def _symbol(value: Mapping[str, Any], values: Arguments) -> Any:
    return values[value["as_name"]] if "as_name" in value else next(iter(value.values()))


def names_in(argument: Any) -> Iterator[str]:
    """Names of values anywhere in an argument of the schema, those for inner graphs included."""
    if isinstance(argument, list):
        for part in argument:
            yield from names_in(part)
    elif isinstance(argument, dict):
        for key, part in argument.items():
            if key in ("name", "as_name") and isinstance(part, str):
                yield part
            elif key not in ("nodes", "tensor_values", "graph"):
                yield from names_in(part)


def bind(outputs: tuple[Any, ...], result: Any, values: Arguments) -> None:
    """Give what an operator returned the names that its node has for it."""
    if len(outputs) == 1 and "as_tensors" not in outputs[0]:
        single = result[0] if isinstance(result, tuple) and len(result) == 1 else result
        _bind_one(outputs[0], single, values)
        return
    if len(outputs) == 1:
        result = (result,)
    for argument, part in zip(outputs, result, strict=False):
        _bind_one(argument, part, values)


def _bind_one(argument: Mapping[str, Any], part: Any, values: Arguments) -> None:
    for key, value in argument.items():
        if key in ("as_tensor", "as_sym_int", "as_sym_bool", "as_sym_float"):
            values[value.get("name", value.get("as_name"))] = part
        elif key == "as_tensors":
            values.update(zip((v["name"] for v in value), part, strict=False))
        elif key == "as_optional_tensor":
            _bind_one(value, part, values)
