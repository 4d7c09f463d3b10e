"""TorchScript archives: the module tree of ``data.pkl``, and the code as a graph.

Traced, scripted and lite-interpreter files alike. The pickle is read by the inert machine, the
code is parsed as text: nothing of either is run.
"""

from typing import TYPE_CHECKING

from normcheck.errors import NoModelError, RefusedError
from normcheck.formats.torch_zip import read_torch_zip
from normcheck.formats.torchscript.growing_graph import constant
from normcheck.formats.torchscript.script_code import Code, ScriptClass, plain_name, read_code
from normcheck.formats.torchscript.script_graph import scripted_graph
from normcheck.formats.zip_directory import Archive
from normcheck.pickles.inert import Inert, attributes_of
from normcheck.pickles.torch_objects import as_tensor
from normcheck.saved.checkpoint import Form, ModuleRecord, Plain, SavedModel
from normcheck.saved.tensors import TensorRef
from normcheck.sources.limits import Budget
from normcheck.sources.source import Source

if TYPE_CHECKING:
    from normcheck.saved.graph import Graph

_RECORD_BYTES = 4_096
_SCRIPTED = "__torch__."


def read_torchscript(source: Source, archive: Archive, root: str, budget: Budget) -> SavedModel:
    """The model of an archive, its modules and its graph.

    Raises:
        UnreadableError: Pickle, code or tensors are not as torch writes them.
        NoModelError: The pickle holds no module.
        RefusedError: Past the limits.
    """
    value = read_torch_zip(source, archive, budget)
    if not isinstance(value, Inert) or not _is_object(value):
        raise NoModelError(f"{source.name}: the TorchScript archive holds no module")
    code = read_code(source, archive, root, budget)
    constants = _constants(source, archive, root, budget)
    records, tensors = _walk(value, code, budget)
    graph: Graph | None = None
    if code.classes:
        graph = scripted_graph(value, code, constants, budget)
        for name in graph.stored.values():
            tensor = as_tensor(constant(name, constants))
            if name not in tensors and tensor is not None:
                tensors[name] = tensor
    return SavedModel("", Form.TORCHSCRIPT, tensors, records, root=value, graph=graph)


def _is_object(value: object) -> bool:
    return isinstance(value, Inert) and value.class_path.startswith(_SCRIPTED)


def _constants(source: Source, archive: Archive, root: str, budget: Budget) -> tuple[object, ...]:
    if f"{root}constants.pkl" not in archive.namelist():
        return ()
    value = read_torch_zip(source, archive, budget, part="constants")
    return tuple(value) if isinstance(value, tuple | list) else ()


def _walk(
    root: object, code: Code, budget: Budget
) -> tuple[tuple[ModuleRecord, ...], dict[str, TensorRef]]:
    """Every module once, parents before children, and its tensors by name."""
    records: list[ModuleRecord] = []
    tensors: dict[str, TensorRef] = {}
    aliases: dict[int, list[str]] = {}
    stack: list[tuple[str, object, int]] = [("", root, 0)]
    drafts: list[tuple[str, object]] = []
    while stack:
        path, value, depth = stack.pop()
        if id(value) in aliases:
            aliases[id(value)].append(path)
            continue
        if len(drafts) >= budget.limits.modules:
            raise RefusedError("more modules than any model has", limit="modules")
        if depth > budget.limits.nesting or len(path) > budget.limits.name_bytes:
            raise RefusedError("modules nested too deep", limit="nesting")
        aliases[id(value)] = []
        drafts.append((path, value))
        state = attributes_of(value)
        budget.copy(len(state), len(path) * (len(state) + 1))
        budget.spend(_RECORD_BYTES)
        children = [
            (f"{path}.{name}" if path else name, child, depth + 1)
            for name, child in state.items()
            if isinstance(name, str) and _is_object(child)
        ]
        stack.extend(reversed(children))
    for path, value in drafts:
        record = _record(path, value, code, tuple(aliases[id(value)]))
        records.append(record)
        for name, tensor in (*record.parameters.items(), *record.buffers.items()):
            if tensor is not None:
                tensors[f"{path}.{name}" if path else name] = tensor
    return tuple(records), tensors


def _record(path: str, value: object, code: Code, aliases: tuple[str, ...]) -> ModuleRecord:
    assert isinstance(value, Inert)  # noqa: S101  (only such are walked)
    known = code.classes.get(value.class_path) or ScriptClass(
        value.class_path, frozenset(), frozenset(), frozenset(), {}, {}
    )
    state = attributes_of(value)
    parameters: dict[str, TensorRef | None] = {}
    buffers: dict[str, TensorRef | None] = {}
    plain: dict[str, TensorRef] = {}
    attributes: dict[str, Plain] = dict(known.constants)
    for name, item in state.items():
        if not isinstance(name, str) or name == "training":
            continue
        tensor = as_tensor(item)
        if name in known.parameters:
            parameters[name] = tensor
        elif name in known.buffers or (tensor is not None and not known.methods):
            buffers[name] = tensor
        elif tensor is not None:
            plain[name] = tensor
        elif item is None or isinstance(item, bool | int | float | str):
            attributes[name] = item
    # Registered as None: the state leaves some of these out.
    for name in known.absent:
        if name in known.parameters:
            parameters[name] = None
        elif name in known.buffers:
            buffers[name] = None
    training = state.get("training")
    return ModuleRecord(
        path=path,
        class_path=plain_name(value.class_path),
        training=training if isinstance(training, bool) else None,
        attributes=attributes,
        parameters=parameters,
        buffers=buffers,
        plain_tensors=plain,
        aliases=aliases,
        has_children=any(_is_object(child) for child in state.values()),
    )
