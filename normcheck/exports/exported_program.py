"""Archives of ``torch.export.save`` (``.pt2``): a graph in JSON, and its weights.

Since torch 2.9 an archive holds ``models/<name>.json``, the weights one file a storage and a
``<name>_weights_config.json`` that says which tensor lies where; 2.7 and 2.8 saved the weights
with ``torch.save`` into ``<name>.pt``. Up to 2.6 the graph was
``serialized_exported_program.json``, beside ``serialized_state_dict.pt``. The JSON is that of
``torch/_export/serde/schema.py``.
"""

import re
import zipfile
from typing import Any

from normcheck.checkpoint.dtypes import BY_NAME, UINT8
from normcheck.checkpoint.json_text import read_json
from normcheck.checkpoint.limits import Budget
from normcheck.checkpoint.model import Form, SavedModel
from normcheck.checkpoint.source import Source
from normcheck.checkpoint.tensors import (
    Region,
    Storage,
    TensorRef,
    checked_tensor,
    tensor_without_data,
)
from normcheck.checkpoint.torch_objects import as_tensor
from normcheck.errors import UnreadableError
from normcheck.exports.exported_graph import exported_graph
from normcheck.exports.nested import member_source, saved_object, saved_tensors

_MODEL = re.compile(r"(?:^|.*/)models/([^/]+)\.json$", re.DOTALL)
_OLD_GRAPH = "serialized_exported_program.json"
_OLD_WEIGHTS = ("serialized_state_dict.pt", "serialized_constants.pt")
SCALAR_TYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32",
    8: "float64", 9: "complex32", 10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16",
    28: "uint16", 29: "float8_e4m3fn", 30: "float8_e5m2", 31: "float8_e4m3fnuz",
    32: "float8_e5m2fnuz", 33: "float8_e8m0fnu", 34: "uint32", 35: "uint64",
}  # fmt: skip
"""``ScalarType`` of the schema, by torch's names."""
_DAMAGED = "the file is damaged, or newer than this normcheck; export the model again"


def is_exported(names: list[str]) -> bool:
    """Whether an archive with these members is one of ``torch.export.save``."""
    return _OLD_GRAPH in names or any(_MODEL.match(name) for name in names)


def read_exported(
    source: Source, archive: zipfile.ZipFile, budget: Budget
) -> tuple[SavedModel, ...]:
    """The models of an archive, with their graphs; weights are read when asked for.

    Raises:
        UnreadableError: Its JSON or its tensors are not as torch writes them.
        RefusedError: Past the limits.
    """
    names = archive.namelist()
    if _OLD_GRAPH in names:
        tensors: dict[str, TensorRef] = {}
        for member in _OLD_WEIGHTS:
            inner = member_source(source, archive, member, budget)
            if inner is not None and inner.size:
                tensors.update(saved_tensors(inner, budget))
        return (_model(source, archive, _OLD_GRAPH, "", tensors, budget),)
    found = [(name, match.group(1)) for name in names if (match := _MODEL.match(name))]
    models = []
    for member, called in found:
        root = member[: -len(f"models/{called}.json")]
        tensors = _weights(source, archive, f"{root}data/weights/", f"{called}_weights", budget)
        tensors.update(
            _weights(source, archive, f"{root}data/constants/", f"{called}_constants", budget)
        )
        where = called if len(found) > 1 else ""
        models.append(_model(source, archive, member, where, tensors, budget))
    return tuple(models)


def _model(
    source: Source,
    archive: zipfile.ZipFile,
    member: str,
    where: str,
    tensors: dict[str, TensorRef],
    budget: Budget,
) -> SavedModel:
    described = _json(source, archive, member, budget)
    module = described.get("graph_module") if isinstance(described, dict) else None
    if not isinstance(module, dict):
        raise UnreadableError(f"{source.name}: {member[:80]} describes no graph", _DAMAGED)
    try:
        graph = exported_graph(module, budget)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UnreadableError(
            f"{source.name}: {member[:80]} is not of the schema that torch.export writes "
            f"({type(error).__name__})",
            _DAMAGED,
        ) from error
    return SavedModel(where, Form.EXPORTED, tensors, ordered=False, root=module, graph=graph)


def _json(source: Source, archive: zipfile.ZipFile, member: str, budget: Budget) -> Any:
    inner = member_source(source, archive, member, budget)
    if inner is None:
        raise UnreadableError(f"{source.name}: {member[:80]} is missing", _DAMAGED)
    return read_json(inner, 0, inner.size, budget, "it")


def _weights(
    source: Source, archive: zipfile.ZipFile, folder: str, called: str, budget: Budget
) -> dict[str, TensorRef]:
    names = set(archive.namelist())
    config = f"{folder}{called}_config.json"
    if config not in names:
        saved = f"{folder}{called.rpartition('_')[0]}.pt"
        inner = member_source(source, archive, saved, budget)
        return saved_tensors(inner, budget) if inner is not None and inner.size else {}
    described = _json(source, archive, config, budget)
    entries = described.get("config") if isinstance(described, dict) else None
    if not isinstance(entries, dict):
        raise UnreadableError(f"{source.name}: {config[:80]} lists no tensors", _DAMAGED)
    budget.copy(len(entries))
    regions: dict[str, Region] = {}
    return {
        name: _tensor(source, archive, folder, name, entry, regions, budget)
        for name, entry in entries.items()
        if not _custom_object(entry)
    }


def _custom_object(entry: object) -> bool:
    return isinstance(entry, dict) and entry.get("tensor_meta") is None


def _tensor(
    source: Source,
    archive: zipfile.ZipFile,
    folder: str,
    name: str,
    entry: Any,
    regions: dict[str, Region],
    budget: Budget,
) -> TensorRef:
    try:
        meta, file = entry["tensor_meta"], entry["path_name"]
        code = meta["dtype"]
        shape = tuple(size["as_int"] for size in meta["sizes"])
        strides = tuple(step["as_int"] for step in meta["strides"])
        offset = meta["storage_offset"]["as_int"]
        pickled, requires_grad = entry.get("use_pickle") is True, meta["requires_grad"] is True
        layout = meta.get("layout")
    except (KeyError, TypeError, AttributeError) as error:
        raise UnreadableError(
            f"{source.name}: the entry of {name[:80]} is not as torch.export writes it", _DAMAGED
        ) from error
    dtype = BY_NAME.get(SCALAR_TYPES.get(code, "") if isinstance(code, int) else "")
    if dtype is None or (layout not in (None, 7)):
        return tensor_without_data(UINT8, shape, f"element type {code!r:.20}")
    inner = member_source(source, archive, f"{folder}{file}", budget)
    if inner is None:
        raise UnreadableError(
            f"{source.name}: {name[:80]} should lie in {str(file)[:80]}, which is missing",
            "the file is damaged; fetch it again or export the model again",
        )
    if pickled:
        value = as_tensor(saved_object(inner, budget))
        return value or tensor_without_data(dtype, shape, "saved as a tensor of another class")
    # One storage for all tensors that lie in one file, so that ties show.
    region = regions.setdefault(file, inner.region)
    storage = Storage(str(file), dtype, region.nbytes, region=region)
    return checked_tensor(
        storage, offset, shape, strides, requires_grad=requires_grad, limits=budget.limits
    )
