"""The size of images that the files beside a model's weights state: Hugging Face's and timm's.

``config.json`` has ``image_size``, of timm ``pretrained_cfg.input_size``;
``preprocessor_config.json`` has what images are cropped or resized to. No torch.
"""

from collections.abc import Iterator
from pathlib import Path

from normcheck.errors import NormcheckError
from normcheck.formats.bounded_json import read_json
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.sources.limits import DEFAULT_LIMITS, Budget
from normcheck.sources.source import FileSource

_CONFIG, _PROCESSOR = "config.json", "preprocessor_config.json"
_WEIGHTS = ("model", "pytorch_model", "open_clip", "checkpoint")
"""How the files begin that go with them; any other file beside is another model's."""
_PARTS = ("vision_config", "pretrained_cfg", "backbone_config", "encoder")
"""Dictionaries of a configuration in which the part that sees images has its own."""
_NAMES = ("image_size", "input_size", "img_size")
_LARGEST = 2048
_SMALLEST = 4


@lazy_dataclass()
class LikelySize:
    """A size of images that a model was probably trained on."""

    height: int
    width: int
    why: str
    """What says so, in words."""

    def __str__(self) -> str:
        """``224x224``."""
        return f"{self.height}x{self.width}"


def size_beside(target: str) -> LikelySize | None:
    """The size that files beside the weights state; None where none does, or none can be read.

    Args:
        target: The file or folder that was named.
    """
    path = Path(target)
    if not path.is_dir() and not path.name.startswith(_WEIGHTS):
        return None
    folder = path if path.is_dir() else path.parent
    for name, read in ((_PROCESSOR, _processed), (_CONFIG, _configured)):
        for key, value in read(_entries(folder / name)):
            size = sides_of(value)
            if size is not None:
                return LikelySize(*size, f"{name}, {key}")
    return None


def _entries(file: Path) -> dict[str, object]:
    try:
        if not file.is_file():
            return {}
        source = FileSource(file)
        try:
            found = read_json(source, 0, source.size, Budget(DEFAULT_LIMITS), "the configuration")
        finally:
            source.close()
    except (NormcheckError, OSError):
        return {}  # the weights are what was asked about
    return found if isinstance(found, dict) else {}


def _processed(entries: dict[str, object]) -> Iterator[tuple[str, object]]:
    """What images become: cropped last where that is done."""
    names = ["crop_size", "size"] if entries.get("do_center_crop") else ["size"]
    for name in names:
        if name in entries:
            yield name, entries[name]


def _configured(entries: dict[str, object]) -> Iterator[tuple[str, object]]:
    for place, part in (("", entries), *((f"{p}.", entries.get(p)) for p in _PARTS)):
        if isinstance(part, dict):
            yield from ((f"{place}{name}", part[name]) for name in _NAMES if name in part)


def sides_of(value: object) -> tuple[int, int] | None:
    """Height and width of ``224``, ``[224, 224]``, ``[3, 224, 224]`` or a dictionary."""
    if isinstance(value, dict):
        edge = value.get("shortest_edge")
        value = [value.get("height", edge), value.get("width", edge)]
    sides = list(value)[-2:] if isinstance(value, list | tuple) else [value, value]
    if len(sides) == 1:
        sides *= 2
    whole = [side for side in sides if isinstance(side, int) and not isinstance(side, bool)]
    if len(whole) != 2 or not all(_SMALLEST <= side <= _LARGEST for side in whole):
        return None
    return whole[0], whole[1]
