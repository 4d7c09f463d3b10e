"""What was read: the values that every reader ends in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.saved.clocks import Clock, of_optimizer
from normcheck.saved.graph import Graph
from normcheck.saved.optimizer import OptimizerState
from normcheck.saved.tensors import TensorRef
from normcheck.sources.source import Source

MEMBER = "!"
"""What the place of a model begins with that lies in a member of an archive."""
Plain = bool | int | float | str | None | tuple[object, ...]
"""The attribute values that are kept of a module: configuration, not contents."""


class Form(StrEnum):
    """How a model is stored, which decides what can be known of it."""

    STATE_DICT = "state dict"
    MODULE = "whole module"
    LIVE = "live module"
    TORCHSCRIPT = "TorchScript"
    EXPORTED = "exported program"
    ONNX = "ONNX graph"

    @property
    def exported(self) -> bool:
        """Whether it is an export: operators with their mode built in."""
        return self in (Form.TORCHSCRIPT, Form.EXPORTED, Form.ONNX)


@dataclass(frozen=True, slots=True, eq=False)
class ModuleRecord:
    """One module of a saved tree, as its pickle describes it."""

    path: str
    """Dotted path below the model, empty for the model itself."""
    class_path: str
    """``torch.nn.modules.batchnorm.BatchNorm2d``; base classes are not in the file."""
    training: bool | None
    """The mode it was saved in; None where the pickle does not say."""
    attributes: Mapping[str, Plain] = field(default_factory=dict)
    parameters: Mapping[str, TensorRef | None] = field(default_factory=dict)
    buffers: Mapping[str, TensorRef | None] = field(default_factory=dict)
    """Registered buffers; a None is one that was registered as None."""
    non_persistent: frozenset[str] = frozenset()
    """Names of buffers that a state dict of this module leaves out."""
    plain_tensors: Mapping[str, TensorRef] = field(default_factory=dict)
    """Tensors in plain attributes: in no state dict, moved by no ``.to()``."""
    aliases: tuple[str, ...] = ()
    """Other paths at which the same module object sits."""
    registered: bool = True
    """False for a module in a plain attribute, list or dict, which ``eval()`` does not reach."""
    has_children: bool = False

    @property
    def class_name(self) -> str:
        """The last part of the class path."""
        return self.class_path.rpartition(".")[2]


@lazy_dataclass(eq=False)
class SavedModel:
    """One model of a checkpoint."""

    where: str
    """Where it sits in the file, empty for the file's own object: ``state_dict``, ``nets[0]``."""
    form: Form
    tensors: Mapping[str, TensorRef]
    """What a state dict of it holds, by name, in the model's order."""
    modules: tuple[ModuleRecord, ...] | None = None
    """Every module once, parents before children; None for a state dict."""
    ordered: bool = True
    """Whether ``tensors`` are in the order in which the model registered them."""
    root: object = field(default=None, repr=False)
    """The inert object that ``modules`` describes, for those who rebuild it."""
    graph: Graph | None = None
    """What it computes, of an export."""
    versions: Mapping[str, int] = field(default_factory=dict)
    """Module path to the version in the state dict's ``_metadata``, where it has one."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Tensors that are not in ``tensors``, by name, with the reason."""

    @property
    def alone(self) -> bool:
        """Whether it is its file's own object, with nothing beside it."""
        return not self.where or (self.where.startswith(MEMBER) and "#" not in self.where)


@lazy_dataclass(eq=False)
class Checkpoint:
    """What a saved file holds, read without running it. Close it after use."""

    name: str
    """The target as the user wrote it."""
    format: str
    """In words for the report: ``torch zip file``."""
    size: int
    """Length in bytes, of all its files."""
    models: tuple[SavedModel, ...]
    optimizer_steps: int | None = None
    """The largest ``step`` in an optimizer state of the same file."""
    clocks: tuple[Clock, ...] = ()
    """What a training loop counted itself: ``global_step``, epochs, steps of a schedule."""
    optimizers: int = 0
    """How many optimizer states the file holds."""
    optimizer_states: tuple[OptimizerState, ...] = ()
    """Those of them that keep averages of gradients."""
    notes: tuple[str, ...] = ()
    """What the reader wants the user to know."""
    sources: tuple[Source, ...] = ()
    companions: tuple[Source, ...] = ()
    """Files beside it, open, that tell of its training and hold no part of it."""
    beside: tuple[str, ...] = ()
    """Further files that tensors lie in, opened only while they are read."""
    names: tuple[tuple[str, str], ...] = ()
    """Module and name of every class and function that its pickles name."""
    refused_by_torch: str = ""
    """Why the loader of torch that the file is for fails on it; empty where it has no reason."""

    @property
    def pace(self) -> tuple[Clock, ...]:
        """All clocks that tell how far a model was trained.

        Empty where the file has several optimizers (a GAN's two): nobody knows which of them
        trains which model, nor what a loop counts.
        """
        return (*self.clocks, *of_optimizer(self.optimizer_steps)) if self.optimizers < 2 else ()

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all files that it is read from."""
        return (*(s.name for s in (*self.sources, *self.companions)), *self.beside)

    def close(self) -> None:
        """Close the files behind the tensors."""
        for source in (*self.sources, *self.companions):
            source.close()
