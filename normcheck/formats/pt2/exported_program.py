"""Archives of ``torch.export.save`` (``.pt2``): a graph in JSON, and its weights.

Since torch 2.9 an archive holds ``models/<name>.json``, the weights one file a storage and a
``<name>_weights_config.json`` that says which tensor lies where; 2.7 and 2.8 saved the weights
with ``torch.save`` into ``<name>.pt``. Up to 2.6 the graph was
``serialized_exported_program.json``, beside ``serialized_state_dict.pt``. The JSON is that of
``torch/_export/serde/schema.py``.
"""

import re
from dataclasses import field
from typing import Any

from normcheck.errors import RefusedError, UnreadableError
from normcheck.formats.bounded_json import read_json
from normcheck.formats.nested_archives import member_source, saved_object, saved_tensors
from normcheck.formats.pt2.exported_graph import exported_graph
from normcheck.formats.zip_directory import Archive
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.pickles.torch_objects import as_tensor
from normcheck.saved.checkpoint import Form, SavedModel
from normcheck.saved.dtypes import BY_NAME, UINT8
from normcheck.saved.tensors import (
    Storage,
    TensorRef,
    checked_tensor,
    tensor_without_data,
)
from normcheck.sources.limits import Budget
from normcheck.sources.source import Source

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
_STRIDED = 7
"""``Layout`` of the schema; the others are sparse."""
_DAMAGED = "the file is damaged, or newer than this normcheck; export the model again"


def is_exported(names: list[str]) -> bool:
    """Whether an archive with these members is one of ``torch.export.save``."""
    return _OLD_GRAPH in names or any(_MODEL.match(name) for name in names)


def read_exported(source: Source, archive: Archive, budget: Budget) -> tuple[SavedModel, ...]:
    """The models of an archive, with their graphs; weights are read when asked for.

    Raises:
        UnreadableError: Its JSON or its tensors are not as torch writes them.
        RefusedError: Past the limits.
    """
    names = frozenset(archive.namelist())
    if _OLD_GRAPH in names:
        tensors: dict[str, TensorRef] = {}
        for member in _OLD_WEIGHTS:
            inner = member_source(source, archive, member, budget)
            if inner is not None and inner.size:
                tensors.update(saved_tensors(inner, budget))
        return (_model(source, archive, _OLD_GRAPH, "", tensors, budget),)
    found = [(name, match.group(1)) for name in archive.namelist() if (match := _MODEL.match(name))]
    if len(found) > budget.limits.models:
        raise RefusedError(f"{source.name}: {len(found):,} models in one file", limit="models")
    models = []
    for member, called in found:
        root = member[: -len(f"models/{called}.json")]
        stored = _Stored(source, archive, names, budget)
        tensors = stored.tensors(f"{root}data/weights/", f"{called}_weights")
        tensors.update(stored.tensors(f"{root}data/constants/", f"{called}_constants"))
        where = called if len(found) > 1 else ""
        models.append(_model(source, archive, member, where, tensors, budget))
    return tuple(models)


def _model(
    source: Source,
    archive: Archive,
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
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UnreadableError(
            f"{source.name}: {member[:80]} is not of the schema that torch.export writes "
            f"({type(error).__name__})",
            _DAMAGED,
        ) from error
    return SavedModel(where, Form.EXPORTED, tensors, ordered=False, root=module, graph=graph)


def _json(source: Source, archive: Archive, member: str, budget: Budget) -> Any:
    inner = member_source(source, archive, member, budget)
    if inner is None:
        raise UnreadableError(f"{source.name}: {member[:80]} is missing", _DAMAGED)
    return read_json(inner, 0, inner.size, budget, "it")


@lazy_dataclass()
class _Stored:
    """The weights and constants of a model, each file of them read once."""

    source: Source
    archive: Archive
    names: frozenset[str]
    budget: Budget
    storages: dict[tuple[str, str], Storage] = field(default_factory=dict)
    pickled: dict[str, TensorRef | None] = field(default_factory=dict)

    def tensors(self, folder: str, called: str) -> dict[str, TensorRef]:
        """The tensors of a folder by name, as ``<called>_config.json`` or ``.pt`` lists them."""
        config = f"{folder}{called}_config.json"
        if config not in self.names:
            saved = f"{folder}{called.rpartition('_')[0]}.pt"
            inner = member_source(self.source, self.archive, saved, self.budget)
            return saved_tensors(inner, self.budget) if inner is not None and inner.size else {}
        described = _json(self.source, self.archive, config, self.budget)
        entries = described.get("config") if isinstance(described, dict) else None
        if not isinstance(entries, dict):
            raise UnreadableError(f"{self.source.name}: {config[:80]} lists no tensors", _DAMAGED)
        self.budget.copy(len(entries))
        return {
            name: self._tensor(folder, name, entry)
            for name, entry in entries.items()
            if not _custom_object(entry)
        }

    def _tensor(self, folder: str, name: str, entry: Any) -> TensorRef:
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
                f"{self.source.name}: the entry of {name[:80]} is not as torch.export writes it",
                _DAMAGED,
            ) from error
        dtype = BY_NAME.get(SCALAR_TYPES.get(code, "") if type(code) is int else "")
        if dtype is None or (layout not in (None, _STRIDED)):
            return tensor_without_data(UINT8, shape, f"element type {code!r:.20}")
        path = f"{folder}{file}"
        inner = member_source(self.source, self.archive, path, self.budget)
        if inner is None:
            raise UnreadableError(
                f"{self.source.name}: {name[:80]} should lie in {str(file)[:80]}, which is missing",
                "the file is damaged; fetch it again or export the model again",
            )
        if pickled:
            if path not in self.pickled:
                self.pickled[path] = as_tensor(saved_object(inner, self.budget))
            value = self.pickled[path]
            return value or tensor_without_data(dtype, shape, "saved as a tensor of another class")
        # One storage for all tensors that lie in one file, so that ties show.
        fresh = Storage(path, dtype, inner.size, region=inner.region)
        storage = self.storages.setdefault((path, dtype.name), fresh)
        return checked_tensor(
            storage, offset, shape, strides, requires_grad=requires_grad, limits=self.budget.limits
        )


def _custom_object(entry: object) -> bool:
    return isinstance(entry, dict) and entry.get("tensor_meta") is None
