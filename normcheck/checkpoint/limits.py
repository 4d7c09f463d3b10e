"""How much a file may ask for before it is refused.

A pickle can describe in a few bytes what takes gigabytes to build. Real checkpoints
stay far below these numbers: the largest seen has about 300,000 tensors, which is some
10 million pickle opcodes.
"""

from dataclasses import dataclass

from normcheck.errors import RefusedError


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds for reading one file; past one of them a ``RefusedError`` names it."""

    opcodes: int = 50_000_000
    """Pickle instructions executed for one pickle."""
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


DEFAULT_LIMITS = Limits()


@dataclass(slots=True)
class Budget:
    """What putting the models of one file together may cost.

    A pickle can let a million modules share one dictionary of a million entries: what is
    shared counts each time, as it is copied each time.
    """

    limits: Limits = DEFAULT_LIMITS
    copied: int = 0
    characters: int = 0

    def copy(self, entries: int, characters: int = 0) -> None:
        """Count entries that become part of a model, and the length of their names."""
        self.copied += entries
        self.characters += characters
        if self.copied > self.limits.entries or self.characters > self.limits.path_characters:
            raise RefusedError("models of too many entries, or with names of enormous length")
