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
    tensor_elements: int = 1 << 48
    """Elements of one tensor; 10^14 is far above any model and far below overflow."""
    key_nesting: int = 32
    """Depth of tuples used as a dictionary key (hashing a tuple recurses in C)."""
    name_bytes: int = 1 << 16
    """Length of a tensor's or module's name; a longer one is not a name."""


DEFAULT_LIMITS = Limits()
