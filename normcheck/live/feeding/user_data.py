"""The user's data as batches: arrays, tensors, folders of images, loaders."""

import inspect
import zipfile
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.torch_version import TorchVersion
from torch.utils.data import IterableDataset

from normcheck.errors import NormcheckError, UsageError
from normcheck.formats.safetensors_file import header_length, read_safetensors
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.batches import Batch, evenly
from normcheck.live.feeding.image_folder import image_rows
from normcheck.live.feeding.readings import LABEL_NAMES, is_text
from normcheck.live.loading.model_factory import imported
from normcheck.live.run_request import Feeding
from normcheck.live.torch_tensors import TensorLoader
from normcheck.platforms import names_object
from normcheck.sources.limits import DEFAULT_LIMITS
from normcheck.sources.place import local
from normcheck.sources.source import FileSource
from normcheck.wording import plural

_WITHOUT_TAR = TorchVersion("2.6")
"""Before it ``weights_only`` did not hold for the oldest form of its files (CVE-2025-32434)."""


@lazy_dataclass(eq=False)
class RawData:
    """Items as a loader or a file gives them; what is input and what label is told later."""

    items: tuple[Any, ...]
    source: str
    batch_size: int = 0
    """The loader's own; 0 for arrays, which have none."""


def read_data(feeding: Feeding, model: nn.Module) -> RawData:
    """Get hold of the user's data, at most as many samples as wanted.

    Rows of files and data sets are taken evenly over their whole length, so that data sorted by
    class is not judged by its first class.

    Raises:
        NormcheckError: It cannot be read, or is empty.
    """
    data = feeding.data
    if not isinstance(data, str | Path):
        return _iterable(data, "data from Python", feeding)
    text = str(data)
    path = local(text, "--data")
    if path.is_dir():
        items, source = image_rows(
            path, feeding.samples, feeding.image_size, feeding.mean, feeding.std, channels(model)
        )
        return RawData((items,), source)
    if path.suffix.lower() in _READERS and (path.exists() or not names_object(text)):
        if not path.is_file():
            raise UsageError(f"--data {text}: no such file", "check the path")
        return _file(path, feeding)
    if names_object(text) and not feeding.imports:
        raise UsageError(f"data {text}: is code to import", "--trust-config allows it")
    if names_object(text):
        return _iterable(_called(imported(text, "--data"), text), text, feeding)
    known = ", ".join(sorted(_READERS))
    raise UsageError(
        f"--data {text}: neither a folder, nor a file of a known kind",
        f"give a file ({known}), a folder of images, or pkg.mod:loader",
    )


def channels(model: nn.Module) -> int | None:
    """Input channels of the first convolution, where there is one."""
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return module.in_channels
    return None


def _called(value: Any, text: str) -> Any:
    if inspect.isfunction(value) or inspect.isclass(value) or inspect.ismethod(value):
        return call_factory(value, text)
    return value


def call_factory(factory: Callable[[], Any], text: str) -> Any:
    """What a factory of data makes.

    Args:
        factory: Called without arguments.
        text: How the message names it.

    Raises:
        UsageError: It failed.
    """
    try:
        return factory()
    except Exception as error:
        raise UsageError(
            f"--data {text} failed: {type(error).__name__}: {error}",
            "it is called without arguments, and returns an iterable of batches",
        ) from error


def _iterable(value: Any, source: str, feeding: Feeding) -> RawData:
    if isinstance(value, Tensor | np.ndarray):
        return RawData((_rows(_tensor(value), feeding.samples),), source)
    if isinstance(value, Mapping):
        return RawData((_rows(as_tensors(value), feeding.samples),), source)
    if (
        isinstance(value, tuple)
        and value
        and all(isinstance(v, Tensor | np.ndarray) for v in value)
    ):
        return RawData((_rows(as_tensors(value), feeding.samples),), source)
    if hasattr(value, "__getitem__") and hasattr(value, "__len__") and not isinstance(value, list):
        # A data set: single samples by number, as torch.utils.data has them.
        index = evenly(len(value), feeding.samples)
        return RawData((_collated((value[i] for i in index), source),), source)
    if isinstance(value, IterableDataset):
        return RawData((_collated(islice(value, feeding.samples), source),), source)
    if not isinstance(value, Iterable):
        raise UsageError(
            f"{source} gives a {type(value).__name__}, not batches",
            "return a DataLoader, a Dataset, a list of batches, or tensors",
        )
    items, samples = [], 0
    try:
        for item in islice(value, feeding.samples):
            converted = _cut(as_tensors(item), feeding.samples - samples)
            items.append(converted)
            samples += _length(converted)
            if samples >= feeding.samples:
                break
    except NormcheckError:
        raise
    except Exception as error:
        raise NormcheckError(
            f"{source} failed after {plural(len(items), 'batch')}: {type(error).__name__}: {error}",
            "the loader has to yield at least one batch",
        ) from error
    if not items:
        raise UsageError(f"{source} gave no batch", "the loader has to yield at least one")
    size = getattr(value, "batch_size", None)
    own = size if isinstance(size, int) else _length(items[0])
    return RawData(tuple(items), source, own)


def _file(path: Path, feeding: Feeding) -> RawData:
    try:
        value = _READERS[path.suffix.lower()](path)
    except NormcheckError:
        raise
    except Exception as error:
        raise NormcheckError(
            f"--data {path}: cannot be read: {type(error).__name__}: {error}",
            "arrays and tensors are read without running code; objects of other classes come "
            "from a loader, pkg.mod:loader",
        ) from error
    return _iterable(value, str(path), feeding)


def _torch_file(path: Path) -> Any:
    if torch.__version__ < _WITHOUT_TAR and not zipfile.is_zipfile(path):
        raise UsageError(
            f"--data {path}: torch {torch.__version__} may run code in a file of this old form",
            "save it as .npz or .safetensors, or use torch 2.6 or later",
        )
    with path.open("rb") as file:
        start = file.read(1)
    if start not in (b"P", b"\x80"):  # of a zip archive, and of a pickle
        raise UsageError(
            f"--data {path}: not a file of torch.save, whatever its name says",
            "save the inputs as x and the labels as y: torch.save({'x': x, 'y': y}, path)",
        )
    return torch.load(path, map_location="cpu", weights_only=True)


def _safetensors(path: Path) -> Any:
    source = FileSource(path)
    try:
        length = header_length(source.read_at(0, min(16, source.size)))
        if length is None:
            raise UsageError(f"--data {path}: not a safetensors file", "check the file")
        found, _ = read_safetensors(source, length, DEFAULT_LIMITS)
        weights = TensorLoader()
        return {name: weights.tensor(ref) for name, ref in found.items()}
    finally:
        source.close()


def _npz(path: Path) -> Any:
    with np.load(path, allow_pickle=False) as file:
        # Texts, such as the names of classes, are for people; where they are called labels, it is
        # said that these are not used.
        arrays = {}
        for name in file.files:
            called_labels = name.lower() in LABEL_NAMES
            try:
                array = file[name]
            except ValueError as error:
                if "allow_pickle" not in str(error):
                    raise
                if called_labels:  # Python objects: texts of a table, mostly
                    raise UsageError(
                        f"--data {path}: {name!r} holds Python objects, which are not unpickled",
                        "save the numbers of the classes: numpy.unique(y, return_inverse=True)[1]",
                    ) from error
                continue
            if _numeric(array) or (called_labels and is_text(array)):
                arrays[name] = array
    if not any(map(_numeric, arrays.values())):
        raise UsageError(
            f"--data {path}: holds no array of numbers", "save the inputs as x, the labels as y"
        )
    if all(name.startswith("arr_") for name in arrays):
        return tuple(arrays.values())  # saved without names: in their order
    return arrays


_READERS = {
    ".npy": lambda path: np.load(path, allow_pickle=False),
    ".npz": _npz,
    ".pt": _torch_file,
    ".pth": _torch_file,
    ".safetensors": _safetensors,
}


def _tensor(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach()
    array = np.ascontiguousarray(value)
    if not _numeric(array):
        raise UsageError(f"the data are an array of {array.dtype}", "give an array of numbers")
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("="))
    return torch.from_numpy(array)


def _numeric(array: np.ndarray) -> bool:
    return array.dtype.kind in "biufc"


def as_tensors(value: Any) -> Any:
    """Arrays as tensors, whatever holds them; texts and dates are for people and stay."""
    if isinstance(value, np.ndarray) and not _numeric(value):
        return value
    if isinstance(value, Tensor | np.ndarray):
        return _tensor(value)
    if isinstance(value, Mapping):
        return {str(key): as_tensors(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(as_tensors(item) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(as_tensors(item) for item in value)
    return value


def _collated(samples: Iterable[Any], source: str) -> Any:
    """Single samples of a data set as one batch."""
    try:
        return torch.utils.data.default_collate(list(samples))
    except Exception as error:
        raise NormcheckError(
            f"{source}: its samples cannot be put together: {type(error).__name__}: {error}",
            "give a DataLoader whose collate_fn makes the batches",
        ) from error


def _cut(value: Any, most: int) -> Any:
    """At most so many samples of a batch."""
    batch = Batch((value,))
    return value if batch.size <= most else batch.rows(range(most)).args[0]


def _length(value: Any) -> int:
    return Batch((value,)).size


def _rows(value: Any, samples: int) -> Any:
    batch = Batch((value,))
    return batch.rows(evenly(batch.size, samples)).args[0]
