"""How much a file may ask for before it is refused.

A pickle can describe in a few bytes what takes gigabytes to build. Real checkpoints
stay far below these numbers: the largest seen has about 300,000 tensors, which is some
10 million pickle opcodes.
"""

from dataclasses import dataclass


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
    entries: int = 20_000_000
    """Entries of modules and dictionaries looked at when models are put together; what is
    shared counts each time, as it is copied each time. A module has some 30."""
    path_characters: int = 1 << 28
    """Length of all paths of one model together: modules, their tensors, their aliases."""
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
