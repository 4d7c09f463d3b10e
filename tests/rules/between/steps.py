"""Hand-made movements between checkpoints: rules of NC6 are tested without files."""

from dataclasses import replace
from typing import Any

from normcheck.compare.movement import Comparison, LayerChange, Movement, Side, Step
from normcheck.findings import Finding
from normcheck.norms.kinds import Family
from normcheck.rules.catalogue import find
from normcheck.rules.rule import Subject
from tests.rules.layers import model

STILL = Movement(0.0, moved=False)
MOVED = Movement(0.1, moved=True)


def layer(
    path: str = "bn",
    *,
    weights: Movement | None = MOVED,
    affine: Movement | None = MOVED,
    stats: Movement | None = MOVED,
    batches: tuple[float | None, float | None] = (1000, 1100),
    **changes: Any,
) -> LayerChange:
    """A batch norm in ordinary training, 100 batches on."""
    change = LayerChange(
        path=path,
        kind="BatchNorm2d",
        family=Family.BATCH,
        features=8,
        weights_path=f"{path}.conv",
        weights=weights,
        affine=affine,
        mean=stats,
        variance=stats,
        batches=batches,
    )
    return replace(change, **changes)


def in_eval_mode(path: str = "bn", **changes: Any) -> LayerChange:
    """Trained without its statistics."""
    return layer(path, **{"stats": STILL, "batches": (1000, 1000), **changes})


def idle(path: str = "bn", **changes: Any) -> LayerChange:
    """Nothing of it moved."""
    return in_eval_mode(path, **{"weights": STILL, "affine": STILL, **changes})


def unlearned(path: str = "bn", **changes: Any) -> LayerChange:
    """Run in train mode, and not trained."""
    return layer(path, **{"weights": STILL, "affine": STILL, **changes})


def step(
    *layers: LayerChange,
    weights: Movement | None = MOVED,
    optimizer: tuple[int | None, int | None] = (None, None),
    number: int = 0,
) -> Step:
    """From one checkpoint to the next."""
    return Step(number, number + 1, weights, 4, 4, layers, optimizer)


def comparison(*steps: Step, ranks: bool = False, **changes: Any) -> Comparison:
    """Steps one after another."""
    numbered = tuple(replace(s, old=0 if ranks else i, new=i + 1) for i, s in enumerate(steps))
    sides = tuple(
        Side(f"{name}.pt", "", "torch zip", "state dict", 1000, None, "float32")
        for name in "abcdefgh"[: len(steps) + 1]
    )
    result = Comparison(
        sides, numbered, replace(numbered[-1], old=0), ranks, values=9, values_read=9
    )
    return replace(result, **changes)


def judge_steps(name: str, *steps: Step, **options: Any) -> list[Finding]:
    """What one rule finds in a comparison; also holds every finding against its rule."""
    rule = find(name)
    found = list(rule.judge(Subject(model(), pair=comparison(*steps, **options))))
    for finding in found:
        assert (finding.rule, finding.name) == (rule.code, rule.name)
        assert finding.severity.rank <= rule.severity.rank
        assert all((finding.title, finding.detail, finding.consequence, finding.fix))
        assert not finding.title.endswith(".")
        assert "  " not in finding.detail
    assert len({(f.layers, f.discriminator) for f in found}) == len(found)
    return found
