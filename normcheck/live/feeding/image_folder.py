"""A folder of images as one batch. Pillow reads them; it is an optional extra."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from normcheck.errors import UsageError
from normcheck.live.batches import evenly
from normcheck.wording import plural

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
_LARGEST = 255.0


def image_rows(
    folder: Path,
    samples: int,
    size: tuple[int, int] | None,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    channels: int | None,
) -> tuple[Any, str]:
    """Images of a folder, evenly over all of it, as ``(N, C, H, W)`` in 0 to 1.

    Args:
        folder: Searched below; where it has folders of its own with images in them, their
            names in sorted order are the classes, as in torchvision's ``ImageFolder``.
        samples: At most so many.
        size: Height and width to resize to; None where all images have one size.
        mean: Subtracted per channel, after scaling to 0 to 1.
        std: Divided by, per channel.
        channels: Of the model's first convolution: 1 reads the images as grey.

    Returns:
        The images, or images and class numbers; and what they are, in words.

    Raises:
        UsageError: No images, of several sizes, or Pillow is missing.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise UsageError(
            f"--data {folder}: reading images needs Pillow", "pip install 'normcheck[images]'"
        ) from error
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
    if not paths:
        raise UsageError(
            f"--data {folder}: no images in it", f"known: {', '.join(sorted(_SUFFIXES))}"
        )
    chosen = [paths[i] for i in evenly(len(paths), samples)]
    mode = "L" if channels == 1 else "RGB"
    arrays = []
    for path in chosen:
        try:
            with Image.open(path) as image:
                converted = image.convert(mode)
                if size is not None:
                    converted = converted.resize((size[1], size[0]), Image.Resampling.BILINEAR)
                arrays.append(np.asarray(converted, dtype=np.float32) / _LARGEST)
        except OSError as error:
            raise UsageError(f"--data {path}: no image: {error}", "remove or mend it") from error
    if len({array.shape for array in arrays}) > 1:
        raise UsageError(
            f"--data {folder}: images of several sizes", "give the model's with --image-size 224"
        )
    pixels = np.stack(arrays)
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
    count = pixels.shape[1]
    for name, values in (("--mean", mean), ("--std", std)):
        if values and len(values) not in (1, count):
            raise UsageError(
                f"{name} has {plural(len(values), 'value')}, the images {plural(count, 'channel')}",
                "give one value, or one for each channel",
            )
    if mean:
        pixels = pixels - np.asarray(mean, dtype=np.float32).reshape(1, -1, 1, 1)
    if std:
        pixels = pixels / np.asarray(std, dtype=np.float32).reshape(1, -1, 1, 1)
    images = torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))
    scaled = "scaled to 0 to 1" if not mean else f"mean {mean} subtracted, divided by {std or 1}"
    source = f"{plural(len(chosen), 'image')} of {folder}, {scaled}"
    classes = sorted({path.relative_to(folder).parts[0] for path in paths})
    if all(len(path.relative_to(folder).parts) > 1 for path in paths) and len(classes) > 1:
        labels = [classes.index(path.relative_to(folder).parts[0]) for path in chosen]
        return (images, torch.tensor(labels)), source
    return images, source
