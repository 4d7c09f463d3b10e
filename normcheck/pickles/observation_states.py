"""Running statistics of observations as reinforcement learning pickles them: no module, no dots.

stable-baselines3 and many scripts keep an object with ``mean``, ``var`` and ``count``, which are
numpy arrays and a number; TorchRL's normalizers flatten theirs into names of their own.
"""

import struct
from collections.abc import Mapping
from itertools import chain

from normcheck.pickles.inert import attributes_of, entries_of
from normcheck.pickles.numpy_arrays import scalar_as_tensor
from normcheck.pickles.torch_objects import as_tensor
from normcheck.saved.dtypes import BY_NAME
from normcheck.saved.tensors import PlainRegion, Storage, TensorRef
from normcheck.sources.source import MemorySource

_MEAN, _SPREADS, _COUNTS = "mean", ("var", "std"), ("count", "n")
_BETWEEN = ".-|-."
"""What TorchRL's VecNormV2 joins names with: ``loc.-|-.observation``."""
_SUMS = ("_sum", "_ssq", "_count")
"""What TorchRL's VecNorm adds to the name of an observation."""


def observation_state(value: object) -> dict[str, TensorRef] | None:
    """Mean, spread and count of an object or dictionary that has these; None of any other."""
    held = attributes_of(value) or entries_of(value)
    if _MEAN not in held:
        return None
    mean = as_tensor(held.get(_MEAN))
    spread, named = next(
        ((tensor, n) for n in _SPREADS if (tensor := as_tensor(held.get(n))) is not None),
        (None, ""),
    )
    count = next((c for n in _COUNTS if (c := _number(held.get(n))) is not None), None)
    if mean is None or spread is None or count is None or mean.shape != spread.shape:
        return None
    return {_MEAN: mean, named: spread, "count": count}


def _number(value: object) -> TensorRef | None:
    """A count as a tensor, whichever way it is kept."""
    tensor = as_tensor(value) or scalar_as_tensor(value)
    if tensor is not None:
        return tensor if tensor.numel == 1 else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        data = struct.pack("<d", value)
    except (OverflowError, struct.error):  # a number beyond all counts
        return None
    region = PlainRegion(MemorySource(data, "a number"), 0, len(data))
    dtype = BY_NAME["float64"]
    return TensorRef(dtype, (), (), 0, Storage("a number", dtype, len(data), region=region))


def named_by_observation(tensors: Mapping[str, TensorRef]) -> dict[str, TensorRef] | None:
    """The state of a normalizer of TorchRL as ``observation.loc``; None where it is none.

    Args:
        tensors: Of one dictionary, by its names.
    """
    together = "\n".join(tensors)
    if _BETWEEN in together:
        parts = {name: name.split(_BETWEEN) for name in tensors}
        return {".".join((*part[1:], part[0])): tensors[name] for name, part in parts.items()}
    if _SUMS[1] not in together:
        return None
    ends = [name for name in tensors if name.endswith(_SUMS[1])]
    stems = [name.removesuffix(_SUMS[1]) for name in ends]
    own = set(chain.from_iterable([stem + end for end in _SUMS] for stem in stems))
    if not stems or own != set(tensors):
        return None
    return {f"{stem}.{end[1:]}": tensors[stem + end] for stem in stems for end in _SUMS}
