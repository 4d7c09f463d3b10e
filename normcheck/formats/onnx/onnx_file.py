"""ONNX models, read without running them: operators with their mode, tensors where they lie."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from normcheck.errors import NoModelError, UnreadableError
from normcheck.formats.onnx.flattened_graph import Call, Flat, Flattener
from normcheck.formats.onnx.graph_nodes import convert
from normcheck.formats.onnx.known_values import KnownValues
from normcheck.formats.onnx.lowered_operators import put_together
from normcheck.formats.onnx.protobuf_wire import damaged, lean
from normcheck.formats.onnx.source_names import unnamed, with_names
from normcheck.formats.onnx.stored_tensors import LeftOut, TensorReader
from normcheck.saved.checkpoint import Checkpoint, Form, SavedModel
from normcheck.saved.graph import Graph, Node
from normcheck.sources.limits import Budget, Limits
from normcheck.sources.source import FileSource, Source

if TYPE_CHECKING:
    from onnx import ModelProto

_START = re.compile(
    rb"\x08[\x01-\x7f](?:"  # the IR version, then one of
    rb"\x12[\x00-\x7f][\x20-\x7e]*?[\x1a\x22\x28\x32\x3a\x42\x72]"  # producer_name, and more
    rb"|\x1a[\x00-\x7f]|\x22[\x00-\x7f]|\x3a|\x42[\x02-\x7f]|\x28)",  # version, domain, graph …
    re.DOTALL,
)
"""How a ModelProto begins; TensorFlow's SavedModel, whose second field is a message, does not."""
_WITH_OPERATOR_SETS = 3
"""Version of the format since which a model names its operator sets; they come at its end."""


def looks_like_onnx(start: bytes) -> bool:
    """Whether a file that begins so is worth parsing.

    Args:
        start: Its first bytes.
    """
    return _START.match(start) is not None


def read_onnx(source: Source, limits: Limits) -> Checkpoint:
    """The model of an ONNX file; tensors are read when asked for, external data included.

    Args:
        source: The file.
        limits: Bounds.

    Raises:
        UnreadableError: Damaged, or external data that is missing.
        RefusedError: Past the limits.
        NoModelError: A model without a graph.
        ImportError: The package ``onnx`` is missing.
    """
    budget = Budget(limits)
    model, left_out = _parsed(source, budget)
    graph = model.graph
    if not model.HasField("graph") or not (graph.node or graph.initializer or graph.output):
        raise NoModelError(
            f"{source.name}: the ONNX file has no graph", "scan the model that it was made from"
        )
    if not model.opset_import and model.ir_version >= _WITH_OPERATOR_SETS:
        raise damaged("it does not say of which version its operators are")
    folder = beside = None
    if isinstance(source, FileSource):
        beside = Path(source.name)
        folder = Path(os.path.abspath(beside)).parent
    reader = TensorReader(folder, beside, budget, left_out)
    flat = Flattener(model, reader, budget).run()
    saved = _model(_in_order(flat))
    by = model.producer_name if model.producer_name.isprintable() else ""
    return Checkpoint(
        name=source.name,
        format=f"protobuf, written by {by:.20}" if by else "protobuf",
        size=source.size + reader.external_bytes,
        models=(saved,),
        sources=(source,),
        beside=reader.external_files,
    )


def _parsed(source: Source, budget: Budget) -> tuple["ModelProto", LeftOut]:
    # Here and nowhere else: it takes longer to import than any other file to read.
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no stubs
    from onnx import ModelProto

    short = lean(source, ModelProto.DESCRIPTOR, budget)
    try:
        model: ModelProto = ModelProto.FromString(short.data)
    except DecodeError as error:
        raise damaged("it is not what the ONNX format allows") from error
    return model, LeftOut(source, short.note, short.places)


def _in_order(flat: Flat) -> Flat:
    """The calls in an order in which they can run; not every tool keeps it."""
    made_by = {value: i for i, call in enumerate(flat.calls) for value in call.outputs if value}
    done: set[int] = set()
    ordered: list[Call] = []
    for first in range(len(flat.calls)):
        stack = [first] if first not in done else []
        waiting: set[int] = set()
        while stack:
            index = stack[-1]
            if index in done:
                stack.pop()
                continue
            call = flat.calls[index]
            needed = {made_by[v] for v in call.inputs if v in made_by} - done - {index}
            if needed & waiting or index in {made_by.get(v) for v in call.inputs}:
                raise UnreadableError(
                    f"{call.name:.80} needs what it makes itself",
                    "the file is damaged, or a tool left it unfinished; export the model again",
                )
            if needed:
                waiting.add(index)
                stack.extend(sorted(needed, reverse=True))
                continue
            done.add(index)
            ordered.append(call)
            waiting.discard(index)
            stack.pop()
    flat.calls = ordered
    return flat


def _model(flat: Flat) -> SavedModel:
    known = KnownValues(flat)
    converted = convert(flat, known)
    nodes = put_together(converted.nodes, flat.outputs, known)
    named, tensors = with_names(nodes, known)
    for value, tensor in known.tensors.items():
        # What exporters compute for other operators are numbers and shapes, no weights.
        weights = tensor.ndim > 0 and (tensor.dtype.floating or not unnamed(value))
        if value not in flat.constants and weights and value not in named.replaced:
            tensors.setdefault(value, tensor)
    stored = {value: value for value in tensors} | {v: v for v in flat.initialisers}
    return SavedModel(
        "",
        Form.ONNX,
        tensors,
        ordered=False,
        graph=Graph(
            nodes=named.nodes,
            inputs=tuple(flat.inputs),
            outputs=tuple(flat.outputs),
            stored={value: name for value, name in stored.items() if name in tensors},
            shapes={**flat.shapes, **{v: t.shape for v, t in known.tensors.items()}},
            scalars=_scalars(nodes, known),
            folded=tuple(converted.folded),
            exact=not flat.control_flow,
        ),
    )


def _scalars(nodes: list[Node], known: KnownValues) -> dict[str, float]:
    """The stored numbers among the inputs of nodes."""
    found = {}
    for node in nodes:
        for value in node.inputs:
            number = known.scalar(known.origin(value))
            if number is not None:
                found[value] = number
    return found
