"""A batch norm where each sample is normalised by the statistics of all the others.

Statistics of half of the data are noisier than those of all of it, and the noise costs the
predictions that are made with them. Statistics of all the data hold the sample that is predicted.
Without it they are as good as all, and know nothing of it.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from normcheck.live.watching.batch_norm_call import BatchNormCall
from normcheck.live.watching.input_moments import sample_moments


def pooled(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], share: float
) -> tuple[Tensor, Tensor]:
    """Mean and variance of two sets of samples together (Chan et al., 1979).

    Args:
        first: Mean and population variance of one, ``(C,)`` each.
        second: The same of the other.
        share: Of all values, those of the first.
    """
    mean = share * first[0] + (1 - share) * second[0]
    variance = share * (first[1] + (first[0] - mean).square())
    variance += (1 - share) * (second[1] + (second[0] - mean).square())
    return mean, variance


def by_others(call: BatchNormCall, statistics: tuple[Tensor, Tensor], samples: int) -> Any:
    """What a batch norm gives where each sample's own values are taken out of the statistics.

    With ``n`` samples of equally many values, mean ``m`` and variance ``v`` of all, ``m_i`` and
    ``v_i`` of one, the others have the mean ``(n m - m_i) / (n - 1)``, and their second moment
    about ``m`` is ``(n v - v_i - (m_i - m)^2) / (n - 1)``.

    Args:
        call: That is about to run.
        statistics: Of all samples, ``(C,)`` each.
        samples: How many these are of, the batch's among them.

    Returns:
        None where the rows of the input are not those of the samples.
    """
    x = call.input
    batch = call.samples or len(x)
    rows, rest = divmod(len(x), batch)
    if rest or not rows or samples < 2:
        return None
    own_mean, own_variance, _ = sample_moments(x)
    if rows > 1:  # tokens, say, of each sample
        each = own_mean.reshape(batch, rows, -1)
        own_variance = own_variance.reshape(batch, rows, -1).mean(1) + each.var(1, correction=0)
        own_mean = each.mean(1)
    mean, variance = statistics
    others = (samples * mean - own_mean) / (samples - 1)
    about = samples * variance - own_variance - (own_mean - mean).square()
    left = (about / (samples - 1) - (others - mean).square()).clamp_min(0)
    return call.with_own_statistics(
        others.repeat_interleave(rows, dim=0), left.repeat_interleave(rows, dim=0)
    )
