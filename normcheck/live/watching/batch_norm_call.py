"""A batch norm that is about to run, and what it would give with other statistics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.watching.operators import TRAINING_AT, Op
from normcheck.live.watching.seen import CallSite

_RESULTS = {"aten::cudnn_batch_norm": 4, "aten::_batch_norm_no_update": 4}
"""Values that an operator returns, where these are not three."""


@lazy_dataclass(eq=False)
class BatchNormCall:
    """A batch norm that is about to run."""

    place: CallSite
    op: Op
    args: tuple[Any, ...]
    training: bool
    samples: int = 0
    """In the batch that runs; 0 where each row of the input is one."""

    @property
    def input(self) -> Tensor:
        """``(N, C, …)``."""
        tensor: Tensor = self.args[0]
        return tensor

    @property
    def statistics(self) -> tuple[Tensor | None, Tensor | None]:
        """The running mean and variance that it was given."""
        if len(self.args) >= 7 or TRAINING_AT[self.op._schema.name] < 0:  # noqa: SLF001
            return self.args[3], self.args[4]
        return None, None

    @property
    def eps(self) -> float:
        """What is added to the variance."""
        cudnn = self.op._schema.name == "aten::cudnn_batch_norm"  # noqa: SLF001
        return float(self.args[7] if cudnn else self.args[-1])

    def with_batch_statistics(self, eps: float | None = None) -> Any:
        """What it gives with the statistics of its own input, without an update.

        Args:
            eps: Another one than its own.
        """
        return self._result(None, None, training=True, eps=eps)

    def with_group_statistics(self, size: int) -> Any:
        """What it gives with the statistics of ``size`` samples at a time, without an update.

        As forwards of so many samples each would give, in one. A last single sample goes with
        the group before it, as in :func:`normcheck.live.batches.split`.
        """
        count = self.samples or len(self.input)
        if count <= size:
            return self.with_batch_statistics()
        ends = list(range(size, count, size))
        if size > 1 and ends and count - ends[-1] == 1:
            ends.pop()
        return self.in_groups([*ends, count], lambda part, _: part.with_batch_statistics())

    def in_groups(self, ends: Sequence[int], of: Callable[[BatchNormCall, int], Any]) -> Any:
        """What it gives where each group of samples is normalised in a way of its own.

        Args:
            ends: Samples up to the end of each group.
            of: What a call gives that takes the samples of one group, by its number.

        Returns:
            The same as for one group where its rows are not those of the samples.
        """
        x, start = self.input, 0
        whole: Tensor | None = None
        rows, rest = divmod(len(x), ends[-1])  # tokens, say, of each sample
        if rest:
            return of(self, 0)
        for number, end in enumerate(ends):
            part = x[rows * start : rows * end]
            call = replace(self, args=(part, *self.args[1:]), samples=end - start)
            found = of(call, number)
            # Written where it belongs: putting pieces together would hold all of it twice.
            whole = found[0].new_empty(x.shape) if whole is None else whole
            whole[rows * start : rows * end] = found[0]
            start = end
        return (whole, *found[1:])

    def by(self, statistics: tuple[Tensor, Tensor] | None) -> Any:
        """What it gives with these statistics, or for none as it is."""
        return self.op(*self.args) if statistics is None else self.with_statistics(*statistics)

    def with_statistics(self, mean: Tensor, variance: Tensor) -> Any:
        """What it gives with these statistics."""
        x = self.input
        kind = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
        return self._result(mean.to(x.device, kind), variance.to(x.device, kind), training=False)

    def with_own_statistics(self, mean: Tensor, variance: Tensor) -> Any:
        """What it gives where every row has statistics of its own.

        Args:
            mean: ``(N, C)``.
            variance: ``(N, C)``.
        """
        weight, bias, x = self.args[1], self.args[2], self.input
        kind = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
        shape = (*mean.shape, *(1 for _ in x.shape[2:]))
        scale = (variance + self.eps).rsqrt()
        if weight is not None:
            scale = scale * weight.to(scale.device, scale.dtype)
        out = x.to(kind) - mean.to(x.device, kind).reshape(shape)
        out *= scale.to(x.device, kind).reshape(shape)
        if bias is not None:
            out += bias.to(x.device, kind).reshape(1, *shape[1:])
        nothing = x.new_empty(0)
        return self._as_returned((out.to(x.dtype), nothing, nothing))

    def _result(
        self,
        mean: Tensor | None,
        variance: Tensor | None,
        *,
        training: bool,
        eps: float | None = None,
    ) -> Any:
        weight, bias, x = self.args[1], self.args[2], self.input
        if mean is not None and weight is not None and weight.dtype != mean.dtype:
            weight, bias = weight.to(mean.dtype), None if bias is None else bias.to(mean.dtype)
        eps = self.eps if eps is None else eps
        return self._as_returned(
            torch.native_batch_norm(x, weight, bias, mean, variance, training, 0.0, eps)
        )

    def _as_returned(self, out: tuple[Tensor, ...]) -> Any:
        """With as many values as its operator returns."""
        if _RESULTS.get(self.op._schema.name) == 4:  # noqa: SLF001
            return (*out, torch.empty(0, dtype=torch.uint8, device=out[0].device))
        return out


Intervene = Callable[[BatchNormCall], Any]
"""Called for every batch norm over the batch; returns its result, or None to let it run."""
