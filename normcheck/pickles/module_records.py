"""A pickled module tree as a flat list of records, walked without recursion."""

from collections.abc import Iterator, Mapping
from dataclasses import field

from normcheck.errors import RefusedError
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.pickles.inert import Inert, attributes_of, brief, entries_of
from normcheck.pickles.torch_objects import as_tensor
from normcheck.saved.checkpoint import Form, ModuleRecord, Plain, SavedModel
from normcheck.saved.tensors import TensorRef
from normcheck.sources.limits import Budget

_OWN = frozenset({"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "training"})
"""Entries of a module's dictionary that have a place of their own in the record."""


def is_module(value: object) -> bool:
    """Whether an inert object is an ``nn.Module``, by what every module carries."""
    state = attributes_of(value)
    return isinstance(state.get("_modules"), dict) and isinstance(state.get("_parameters"), dict)


def class_path(value: object) -> str:
    """Dotted name of the class of an inert module."""
    path = value.class_path if isinstance(value, Inert) else ""
    if path.startswith("torch.fx.graph_module.reduce_"):
        return "torch.fx.graph_module.GraphModule"
    return path


_CONTAINERS = (dict, list, tuple, set, frozenset)
_PLAIN = (bool, int, float, str)
"""Not as unions, which would be put together with every look at them."""
_RECORD_BYTES = 2_048
"""A module's draft and record with their dictionaries, from above."""


@lazy_dataclass(frozen=False)
class _Draft:
    """A module found on the walk; its other paths are still being collected."""

    path: str
    value: object
    registered: bool
    has_children: bool = False
    aliases: list[str] = field(default_factory=list)


def saved_module(where: str, root: object, budget: Budget) -> SavedModel:
    """The model whose tree begins at the inert object ``root``."""
    drafts = _walk(root, budget)
    records = tuple(_record(draft) for draft in drafts)
    tensors: dict[str, TensorRef] = {}
    for record in records:
        if record.registered:
            prefix = f"{record.path}." if record.path else ""
            for name, tensor in (*record.parameters.items(), *record.buffers.items()):
                if tensor is not None and name not in record.non_persistent:
                    tensors[prefix + name] = tensor
    left_out = {
        name: reason for draft in drafts if draft.registered for name, reason in _left_out(draft)
    }
    return SavedModel(where, Form.MODULE, tensors, records, root=root, left_out=left_out)


def _left_out(draft: _Draft) -> Iterator[tuple[str, str]]:
    """Parameters and buffers that are no tensors that are known here."""
    state = attributes_of(draft.value)
    for part in ("_parameters", "_buffers"):
        for name, value in entries_of(state.get(part)).items():
            if value is not None and as_tensor(value) is None and isinstance(name, str):
                kind = value.class_path if isinstance(value, Inert) else type(value).__name__
                yield _join(draft.path, name), f"{kind[:80] or 'an object'}, not read as a tensor"


def _walk(root: object, budget: Budget) -> list[_Draft]:
    drafts: dict[int, _Draft] = {}
    limits = budget.limits
    # First everything that eval() and state_dict() reach, then what hides in plain
    # attributes: a module that is both belongs to the first.
    stack: list[tuple[str, object, bool, int]] = [("", root, True, 0)]
    hidden: list[tuple[str, object, bool, int]] = []
    while stack or hidden:
        if not stack:
            stack, hidden = hidden[::-1], []
        path, value, registered, depth = stack.pop()
        known = drafts.get(id(value))
        if known is not None:
            if registered and path != known.path:
                known.aliases.append(path)
            continue
        if len(drafts) >= limits.modules:
            raise RefusedError(f"more than {limits.modules:,} modules in one tree", limit="modules")
        if depth > limits.nesting or len(path) > limits.name_bytes:
            raise RefusedError(f"modules nested more than {limits.nesting:,} deep", limit="nesting")
        drafts[id(value)] = draft = _Draft(path, value, registered)
        state = attributes_of(value)
        _spend(budget, path, state)
        children = [
            (_join(path, name), child, registered, depth + 1)
            for name, child in entries_of(state["_modules"]).items()
            if isinstance(name, str) and is_module(child)
        ]
        draft.has_children = bool(children)
        stack.extend(reversed(children))
        for name, child in _hidden(state):
            budget.copy(0, len(path) + len(name) + 1)
            hidden.append((_join(path, name), child, False, depth + 1))
    return list(drafts.values())


def _spend(budget: Budget, path: str, state: Mapping[str, object]) -> None:
    """Count a module's dictionary, the containers directly in it, and the paths below it."""
    entries = len(state)
    for value in state.values():
        if isinstance(value, _CONTAINERS):
            entries += len(value)
    budget.copy(entries)
    budget.spend(_RECORD_BYTES)
    for part in ("_parameters", "_buffers", "_modules"):
        names = entries_of(state.get(part))
        letters = len(names) * (len(path) + 1)
        for name in names:
            if isinstance(name, str):
                letters += len(name)
        budget.copy(0, letters)


def _hidden(state: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Modules in plain attributes of a module, or in a list or dict that is one."""
    for name, value in state.items():
        if name in _OWN or not isinstance(name, str):
            continue
        if isinstance(value, Inert):
            if is_module(value):
                yield name, value
        elif isinstance(value, list | tuple):
            for place, item in enumerate(value):
                if is_module(item):
                    yield f"{name}[{place}]", item
        elif isinstance(value, dict):
            for key, item in value.items():
                if is_module(item):
                    yield f"{name}[{brief(key)}]", item


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _record(draft: _Draft) -> ModuleRecord:
    state = attributes_of(draft.value)
    training = state.get("training")
    persistent = state.get("_non_persistent_buffers_set")
    return ModuleRecord(
        path=draft.path,
        class_path=class_path(draft.value),
        training=training if isinstance(training, bool) else None,
        attributes={
            name: _plain(value)
            for name, value in state.items()
            if isinstance(name, str) and name not in _OWN and _is_plain(value)
        },
        parameters=_tensors(state.get("_parameters")),
        buffers=_tensors(state.get("_buffers")),
        non_persistent=frozenset(
            name
            for name in (persistent if isinstance(persistent, set | frozenset) else ())
            if isinstance(name, str)
        ),
        plain_tensors={
            name: tensor
            for name, value in state.items()
            if isinstance(name, str) and name not in _OWN and (tensor := as_tensor(value))
        },
        aliases=tuple(draft.aliases),
        registered=draft.registered,
        has_children=draft.has_children,
    )


def _tensors(value: object) -> dict[str, TensorRef | None]:
    return {
        name: as_tensor(tensor)
        for name, tensor in entries_of(value).items()
        if isinstance(name, str) and (tensor is None or as_tensor(tensor) is not None)
    }


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        # normalized_shape and the like; longer ones are contents.
        return len(value) <= 16 and all(isinstance(v, _PLAIN) for v in value)
    return value is None or isinstance(value, _PLAIN)


def _plain(value: object) -> Plain:
    if isinstance(value, list):
        return tuple(value)
    return value  # type: ignore[return-value]  # _is_plain has looked at it
