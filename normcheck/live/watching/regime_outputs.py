"""The outputs of forwards under one way of normalising."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.batches import Batch
from normcheck.live.watching.outputs import ForwardOutput


@lazy_dataclass(frozen=False)
class RegimeOutputs:
    """The main outputs of all batches under one regime, and the labels."""

    mains: list[Tensor]
    labels: list[Tensor | None]

    @classmethod
    def of(cls, forwards: Iterator[tuple[Batch, ForwardOutput]]) -> RegimeOutputs:
        """Gather them; batches without a per-sample output are left out."""
        mains, labels = [], []
        for batch, output in forwards:
            main = output.main(batch.size)
            if main is not None:
                mains.append(main.cpu())
                labels.append(None if batch.labels is None else batch.labels.cpu())
        return cls(mains, labels)

    def together(self) -> RegimeOutputs:
        """The same as of one batch; itself where they have several shapes."""
        return self.rows(range(sum(map(len, self.mains)))) or self

    def rows(self, index: range) -> RegimeOutputs | None:
        """Those of some samples, by the order in which they were fed.

        Returns:
            None where outputs have several shapes.
        """
        if len({main.shape[1:] for main in self.mains}) != 1:
            return None
        labels = [label for label in self.labels if label is not None]
        chosen = torch.arange(sum(map(len, self.mains)))[index.start : index.stop : index.step]
        told = torch.cat(labels)[chosen] if len(labels) == len(self.mains) else None
        return RegimeOutputs([torch.cat(self.mains)[chosen]], [told])
