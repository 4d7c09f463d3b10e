"""Two populations in one set of data, by what the first norm sees of each sample."""

import torch
from torch import Tensor

_SMALLEST_SHARE = 0.1
"""Of the samples in the smaller group: a few outliers are no population."""
_FEWEST = 16


def separation(samples: Tensor) -> float | None:
    """How far apart two groups of samples lie, in standard deviations within the groups.

    The samples are projected on their first principal component and cut where the scatter
    within both parts is smallest (Otsu); returned is Ashman's D. Samples of one normal
    population have 2.7, of a uniform one 3.5.

    Args:
        samples: ``(N, K)``, a row of features for each.

    Returns:
        None for fewer than 16 samples, or where all are alike.
    """
    finite = samples[samples.isfinite().all(dim=1)].double()
    if len(finite) < _FEWEST:
        return None
    centred = finite - finite.mean(dim=0)
    deviation = centred.std(dim=0)
    centred = centred[:, deviation > 0] / deviation[deviation > 0]
    if centred.shape[1] == 0:
        return None
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    values = (centred @ directions[0]).sort().values
    least = max(2, int(_SMALLEST_SHARE * len(values)))
    best, cut = float("inf"), least
    for place in range(least, len(values) - least + 1):
        within = float(values[:place].var(correction=0)) * place
        within += float(values[place:].var(correction=0)) * (len(values) - place)
        if within < best:
            best, cut = within, place
    low, high = values[:cut], values[cut:]
    scatter = ((low.var() + high.var()) / 2).sqrt()
    if not float(scatter) > 0:
        return None
    return float((high.mean() - low.mean()) / scatter)
