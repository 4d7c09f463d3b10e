"""Whether the first norm's statistics are of images of another kind than those that are fed.

Behind a convolution a channel's variance is what its filter takes of the input's spectrum. So
noise in place of images leaves the variances of filters that smooth too low and of those that take
differences too high, by the filters' own doing and in no way that a factor or an offset makes up
for. Statistics that are intact come about under some smooth random images all the same; those of
other weights, or with part of their initial value left, under none better than under the data.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from normcheck.live.fields.first_response import Response, StoredFirst, response_of
from normcheck.live.fields.fitted_field import likeliest_field
from normcheck.live.fields.smooth_fields import smooth_fields
from normcheck.live.misfit import OtherContent
from normcheck.live.watching.input_moments import Collected
from normcheck.live.watching.regimes import Regimes
from normcheck.live.watching.seen import CallSite
from normcheck.norms.layer import Floats

_IMAGE = 4
SCATTERED = 0.3
"""Of variances about those of the data, root mean square of logarithms, from which another kind of
images is looked for: 0.01 to 0.18 of the data that were meant, 0.33 to 1.3 of noise."""
_LEAST, _EXPLAINED = 0.1, 0.45
"""The same that random images leave of intact statistics, at least and at most: 0.11 to 0.46."""
_CLEARLY = 0.6
"""Part of the scatter that may be left. Of 216 networks with statistics that are off, on data
of their own, 0.71 at least is, where no residue of the initial value explains them as well."""
_NO_RESIDUE = 0.75
"""Part of the scatter that a residue of the initial value leaves: of such networks random images
leave more than that residue does, of noise and other images 0.2 to 0.7 of it."""
_RESIDUES = np.linspace(0.0, 0.95, 39)
_FIELDS = 32


def other_content(
    regimes: Regimes,
    seen: Collected,
    first: CallSite,
    x: Tensor,
    fits: list[tuple[Response, Floats]],
) -> OtherContent | None:
    """The kind of images that the first norm's statistics are of, where it is not the data's.

    Args:
        regimes: Runs the model.
        seen: What eval mode gives each norm.
        first: The first norm.
        x: The data.
        fits: What the first norm makes of the data, with the factor, offsets and 1 under which it
            comes closest to its statistics; of several changes of the data.

    Returns:
        None for what is no image, where the data explain the statistics as well, or nothing does.
    """
    if x.ndim != _IMAGE or not fits:
        return None
    mean, variance = (np.asarray(t.numpy(), np.float64) for t in seen.stored[first])
    known = StoredFirst(mean, variance, seen.eps[first])
    scatter = min(known.scatter(response, parts) for response, parts in fits)
    if not scatter >= SCATTERED:
        return None
    residue = _as_residue(variance, fits[0][0], known.eps)
    if min(_CLEARLY * scatter, _NO_RESIDUE * residue) < _LEAST:
        return None  # no field explains them so much better: none is looked for
    channels, high, wide = x.shape[1:]
    images = likeliest_field(regimes, seen, first, (channels, high, wide))
    if not images.fitted:
        return None
    drawn = smooth_fields(_FIELDS, images.shape, images.smoothness, 0)
    response = response_of(regimes, first, drawn)
    if response is None:
        return None
    parts = np.array([images.factor, *images.offsets, 1.0])
    explained = known.scatter(response, parts)
    if explained > min(_EXPLAINED, _CLEARLY * scatter, _NO_RESIDUE * residue):
        return None
    return OtherContent(scatter, explained, images.smoothness.neighbours, _neighbours(x))


def _as_residue(variance: Floats, response: Response, eps: float) -> float:
    """The scatter that is left where part of the initial value, 1, is in the variances."""
    own = response.variance(np.array([1.0, *[0.0] * (response.means.shape[1] - 2), 1.0]))
    mixed = (1 - _RESIDUES)[:, None] * own + _RESIDUES[:, None]
    logs = np.log((mixed + eps) / (np.maximum(variance, 0.0) + eps))
    logs -= np.median(logs, axis=1, keepdims=True)
    return float(np.sqrt(np.mean(logs**2, axis=1)).min())


def _neighbours(x: Tensor) -> float:
    """Correlation of each value with the one below it and the one to its right."""
    centred = x.double() - x.double().mean((0, 2, 3), keepdim=True)
    among = torch.cat([
        (centred[:, :, 1:] * centred[:, :, :-1]).flatten(),
        (centred[..., 1:] * centred[..., :-1]).flatten(),
    ])  # fmt: skip
    square = float(centred.square().mean())
    return float(among.mean()) / square if square > 0 and among.numel() else 1.0
