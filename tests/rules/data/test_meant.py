"""What is believed of another input and of other code: outputs speak for them, or against."""

from dataclasses import replace

import pytest

from normcheck.live.misfit import InputMap, OtherCode
from normcheck.rules.data.meant_code import meant_code
from normcheck.rules.data.meant_input import believed
from normcheck.rules.harm import Harm
from tests.rules.data.test_harm_by_losses import measured


def change(factor: float, healed: int | None, harmed: int | None, *, fits: bool) -> InputMap:
    return InputMap(
        factor=factor, offsets=(0.0,), reversed_channels=False, fed=((0.0, 1.0),), before=0.1,
        behind=0.5, samples=256, first=0.05, later=0.1 if fits else 0.5, healed=healed,
        harmed=harmed, right=None if healed is None else 100 + healed, fits=fits,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("factor", "healed", "harmed", "fits", "by_statistics", "told"),
    [
        (-1.0, 80, 3, False, (60, 5), True),
        (4.0, 80, 3, False, (60, 5), True),
        (1.1, 80, 3, False, (60, 5), False),  # as two sets of data differ
        (-1.0, 40, 3, False, (60, 5), False),  # other statistics heal more
        (-1.0, 40, 3, True, (60, 5), True),
        (-1.0, 6, 4, False, (0, 0), False),  # by luck
        (-1.0, None, None, False, (None, None), False),
        (4.0, None, None, True, (None, None), True),
    ],
)
def test_answers_alone_have_to_be_clear(
    factor: float,
    healed: int | None,
    harmed: int | None,
    fits: bool,
    by_statistics: tuple[int | None, int | None],
    told: bool,
) -> None:
    """Where norms behind the first do not fit the input so changed."""
    found = believed(change(factor, healed, harmed, fits=fits), by_statistics)
    assert (found is not None) is told


@pytest.mark.parametrize(
    ("after", "harm", "told"),
    [
        (0.23, Harm.STORED_RIGHT, False),  # one class of digits, as behind other borders
        (0.23, Harm.PROVEN, True),
        (0.23, Harm.UNKNOWN, True),
        (0.05, Harm.STORED_RIGHT, True),
    ],
)
def test_outputs_speak_against_code_that_fits_but_roughly(
    after: float, harm: Harm, told: bool
) -> None:
    other = OtherCode("circular borders", 1.0, after, "0.1", "2.1")
    data = replace(measured(0.0, 0.0), other_code=other)
    assert (meant_code(data, harm) is not None) is told
    assert meant_code(measured(0.0, 0.0), harm) is None
    assert meant_code(None, harm) is None
