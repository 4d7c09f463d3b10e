"""The code that statistics are of, where it is another than the one that ran."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normcheck.live.misfit import FITS
from normcheck.rules.harm import Harm

if TYPE_CHECKING:
    from normcheck.live.measurement import AgainstData
    from normcheck.live.misfit import OtherCode


def meant_code(data: AgainstData | None, harm: Harm) -> OtherCode | None:
    """The function that the statistics fit; None where something speaks against it.

    Under other code than was trained the stored statistics suit no better than those of the data.
    Where outputs speak for them and the function fits but roughly, which is put down to statistics
    that lag behind weights which still moved, the code is right, and the data are one-sided: of one
    class of digits norms are as far off as behind other borders.

    Args:
        data: What was measured.
        harm: What the stored statistics do to the outputs.
    """
    found = data.other_code if data is not None else None
    if found is None or (found.after > FITS and harm is Harm.STORED_RIGHT):
        return None
    return found
