"""How much a file may ask for before it is refused.

A pickle can describe in a few bytes what takes gigabytes to build. Real checkpoints
stay far below these numbers: the largest seen has about 300,000 tensors, which is some
10 million pickle opcodes and, as memory is counted here, a gigabyte.
"""

from dataclasses import field, fields
from functools import cached_property

from normcheck.errors import RefusedError
from normcheck.lazy_dataclass import lazy_dataclass

ENTRY_BYTES = 128
"""Of one entry of a dictionary, its share of a table that is being doubled included."""
_LETTER_BYTES = 4
"""Of a character where one of the text is outside the basic plane."""


@lazy_dataclass()
class Limits:
    """Bounds for reading one file; past one of them a ``RefusedError`` names it."""

    memory_bytes: int = 2 << 30
    """What may be built from one file before any tensor is read: counted while it is built,
    from above, so that the process itself stays below."""
    opcodes: int = 50_000_000
    """Pickle instructions executed for one file, those of pickles within pickles included."""
    pickle_bytes: int = 1 << 30
    """Length of one pickle, in bytes; tensors do not count, they lie outside it."""
    json_bytes: int = 256 << 20
    """Length of a JSON header or index, in bytes (safetensors itself allows 100 MB)."""
    nesting: int = 1_000
    """Depth of containers and modules that is followed when looking for models."""
    modules: int = 1_000_000
    """Modules in one saved tree."""
    models: int = 10_000
    """Models in one file."""
    entries: int = 10_000_000
    """Entries of modules and dictionaries that are copied when models are put together; a
    module has some 30."""
    path_characters: int = 1 << 28
    """Length of all paths of one file together: modules, their tensors, their aliases."""
    tensor_elements: int = 1 << 48
    """Elements of one tensor; 10^14 is far above any model and far below overflow."""
    tensor_bytes: int = 4 << 30
    """Bytes of one tensor's values, where they are read at once; only norms and the weights
    between them are."""
    unpacked_bytes: int = 16 << 30
    """What may be unpacked from the compressed members of one archive, each time counted."""
    key_nesting: int = 32
    """Depth of tuples used as a dictionary key (hashing a tuple recurses in C)."""
    key_items: int = 256
    """Members of such a tuple, those of the tuples in it included: hashes are not kept, so
    every use of the key costs that much again."""
    unpacked_ratio: int = 200
    """How many times longer than in the archive a compressed pickle may become; real ones
    reach about 20, torch itself never compresses."""
    dimensions: int = 32
    """Of one tensor; what every version of numpy can show."""
    integer_bytes: int = 1_024
    """Length of one integer: arithmetic on longer ones takes time, and they cannot be
    printed. Real ones have 10 at most (the legacy format's magic number)."""
    name_bytes: int = 1 << 16
    """Length of a class's name and of the path to a module; a longer one is not a name."""
    code_steps: int = 2_000_000
    """Statements and expressions that are followed in TorchScript's code, those of a function
    each time that it is called. Twice two calls of twice two calls … are many in a short file;
    a transformer of 24 scripted layers takes some 400,000."""


DEFAULT_LIMITS = Limits()


@lazy_dataclass()
class LimitsWithin(Limits):
    """The same bounds for a file within another: what it costs counts there, too."""

    outer: "Budget | None" = field(default=None, compare=False, repr=False)
    depth: int = 0
    """Archives that the file lies in."""


def within(budget: "Budget") -> LimitsWithin:
    """Limits for a file that lies within the one with this budget."""
    own = {f.name: getattr(budget.limits, f.name) for f in fields(Limits)}
    return LimitsWithin(**own, outer=budget)


@lazy_dataclass(frozen=False)
class Budget:
    """What reading one file has cost so far.

    One budget for all pickles of a file, and for the models that are put together from
    them: a pickle can have the same storage read, or the same dictionary copied, a million
    times. What is shared counts each time.
    """

    limits: Limits = DEFAULT_LIMITS
    opcodes: int = 0
    memory: int = 0
    """Bytes, an estimate from above; what is freed again is not taken off."""
    told: int = 0
    """Of it what the budget of the file around this one knows of."""
    copied: int = 0
    characters: int = 0
    unpacked: int = 0
    steps: int = 0
    names: dict[tuple[str, str], None] = field(default_factory=dict)
    """Module and name of every class and function that the file's pickles name, in order."""

    @cached_property
    def outer(self) -> "Budget | None":
        """That of the file that this one lies in."""
        return self.limits.outer if isinstance(self.limits, LimitsWithin) else None

    def run(self, opcodes: int) -> None:
        """Count pickle instructions, and look at the memory that they took."""
        self.opcodes += opcodes
        if self.outer is not None:
            self.outer.run(opcodes)
        if self.opcodes > self.limits.opcodes:
            raise RefusedError(
                f"the pickle has more than {self.limits.opcodes:,} instructions", limit="opcodes"
            )
        self.spend(0)

    def spend(self, nbytes: int) -> None:
        """Count memory that is about to be taken."""
        self.memory += nbytes
        if self.outer is not None:
            # Some is added without a call, where every instruction counts.
            self.outer.spend(self.memory - self.told)
            self.told = self.memory
        if self.memory > self.limits.memory_bytes:
            raise RefusedError(
                f"what it describes takes more than {self.limits.memory_bytes:,} bytes of memory",
                limit="memory_bytes",
            )

    def copy(self, entries: int, characters: int = 0) -> None:
        """Count entries that become part of a model, and the length of their names."""
        self.copied += entries
        self.characters += characters
        if self.copied > self.limits.entries:
            raise RefusedError("models of too many entries", limit="entries")
        if self.characters > self.limits.path_characters:
            raise RefusedError("models with names of enormous length", limit="path_characters")
        self.spend(entries * ENTRY_BYTES + characters * _LETTER_BYTES)

    def follow(self, steps: int) -> None:
        """Count steps through code."""
        if self.outer is not None:
            self.outer.follow(steps)
        self.steps += steps
        if self.steps > self.limits.code_steps:
            raise RefusedError(
                f"its code takes more than {self.limits.code_steps:,} steps to follow",
                limit="code_steps",
            )

    def unpack(self, nbytes: int) -> None:
        """Count bytes that are about to be unpacked."""
        if self.outer is not None:
            self.outer.unpack(nbytes)
        self.unpacked += nbytes
        if self.unpacked > self.limits.unpacked_bytes:
            raise RefusedError(
                f"its members unpack to more than {self.limits.unpacked_bytes:,} bytes",
                limit="unpacked_bytes",
            )
