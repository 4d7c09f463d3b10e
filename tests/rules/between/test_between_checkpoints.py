"""The rules that compare checkpoints, on hand-made movements."""

from dataclasses import replace

import pytest

from normcheck.compare.movement import LayerChange, Movement, Step
from normcheck.findings import Confidence, Severity
from normcheck.norms.kinds import Family
from normcheck.rules.between.batches_per_step import SLACK
from normcheck.rules.between.ranks_disagree import HARMLESS, ROUNDING
from normcheck.rules.catalogue import RULES, find
from normcheck.rules.rule import CannotTell, Need, Subject
from tests.rules.between.steps import (
    MOVED,
    STILL,
    comparison,
    idle,
    in_eval_mode,
    judge_steps,
    layer,
    step,
    unlearned,
)
from tests.rules.layers import evidence, model, only

COMPARING = [rule.code for rule in RULES if rule.need is Need.PAIR]
no_stats = layer("ln", stats=None, batches=(None, None), family=Family.LAYER)

HEALTHY = {
    "ordinary training": step(layer("a"), layer("b")),
    "with as many optimizer steps": step(layer("a"), layer("b"), optimizer=(500, 600)),
    "no counts": step(layer("a", batches=(None, None)), layer("b", batches=(None, None))),
    "identical": step(idle("a"), idle("b"), weights=STILL),
    "norms without statistics": step(no_stats),
    "norms without statistics, identical": step(
        replace(no_stats, weights=STILL, affine=STILL), weights=STILL
    ),
    "no norms": step(),
    "a frozen batch norm": step(layer("a"), in_eval_mode("b", family=Family.FROZEN_BATCH)),
    "a norm that never counts": step(layer("a"), layer("b", batches=(0, 0))),
    "the wrong order": step(layer("a", batches=(1100, 1000)), layer("b", batches=(1100, 1000))),
    "a norm of unknown weights": step(layer("a"), layer("b", weights=None, affine=None)),
}


@pytest.mark.parametrize("name", COMPARING)
@pytest.mark.parametrize("healthy", HEALTHY)
def test_silent_on_healthy_steps(name: str, healthy: str) -> None:
    """No rule says anything, not even as info; neither in a series of them."""
    assert judge_steps(name, HEALTHY[healthy]) == []
    assert judge_steps(name, HEALTHY[healthy], HEALTHY[healthy]) == []


@pytest.mark.parametrize("name", COMPARING)
def test_needs_a_second_checkpoint(name: str) -> None:
    """Without a comparison there is nothing to judge."""
    with pytest.raises(CannotTell, match="second checkpoint"):
        list(find(name).judge(Subject(model())))


@pytest.mark.parametrize("name", ["NC601", "NC602", "NC604"])
def test_ranks_are_no_moments(name: str) -> None:
    """What moved over time is not asked of ranks."""
    for sick in (in_eval_mode(), unlearned(), layer("b", batches=(9, 3))):
        assert judge_steps(name, step(sick, layer("c"), weights=STILL), ranks=True) == []


class TestStatsStoodStill:
    """NC601."""

    def test_all_layers(self) -> None:
        found = only(judge_steps("NC601", step(in_eval_mode("a"), in_eval_mode("b"))))
        assert (found.layers, found.severity) == (("a", "b"), Severity.WARNING)
        assert found.confidence is Confidence.HIGH
        assert "16 channels" in found.detail
        assert "moved by 10 %" in found.detail

    def test_affine_alone_counts_as_trained(self) -> None:
        found = only(judge_steps("NC601", step(in_eval_mode(weights=None))))
        assert "γ and β moved" in found.detail

    def test_without_a_count(self) -> None:
        found = only(judge_steps("NC601", step(in_eval_mode(batches=(None, None)))))
        assert "No batch count is stored" in found.detail

    def test_frozen_batch_norms_of_a_state_dict(self) -> None:
        """Weights move under them by design; without a count nobody would expect more."""
        frozen = in_eval_mode(affine=STILL, batches=(None, None))
        found = only(judge_steps("NC601", step(frozen, layer("b"))))
        assert (found.severity, found.layers) == (Severity.INFO, ("bn",))
        assert "FrozenBatchNorm" in found.title
        counted = in_eval_mode(affine=STILL)
        assert only(judge_steps("NC601", step(counted))).severity is Severity.WARNING

    def test_optimizer_steps_are_a_witness(self) -> None:
        found = only(judge_steps("NC601", step(in_eval_mode(), optimizer=(5, 25))))
        assert "optimizer made 20 steps" in found.detail

    def test_frozen_part_beside_an_accused_one(self) -> None:
        accused, frozen = judge_steps("NC601", step(in_eval_mode("a"), idle("b"), layer("c")))
        assert (accused.layers, accused.severity) == (("a",), Severity.WARNING)
        assert (frozen.layers, frozen.severity) == (("b",), Severity.INFO)

    def test_frozen_for_a_part_of_the_series(self) -> None:
        thawed = judge_steps("NC601", step(idle("a"), layer("b")), step(layer("a"), layer("b")))
        assert thawed == []

    def test_only_the_steps_concerned_are_named(self) -> None:
        found = only(judge_steps("NC601", step(layer()), step(in_eval_mode()), step(layer())))
        assert "from b.pt → c.pt," in found.detail

    def test_half_precision_lowers_the_confidence(self) -> None:
        sides = comparison(step(in_eval_mode())).sides
        half = tuple(replace(side, floating="bfloat16") for side in sides)
        found = only(judge_steps("NC601", step(in_eval_mode()), sides=half))
        assert found.confidence is Confidence.MEDIUM

    def test_a_sibling_shows_what_happened(self) -> None:
        found = only(judge_steps("NC601", step(in_eval_mode()), sibling_moved="model"))
        assert "under 'model'" in found.consequence
        assert "ruin" not in found.consequence


class TestStatsMovedAlone:
    """NC602."""

    def test_the_whole_model(self) -> None:
        found = only(judge_steps("NC602", step(unlearned("a"), unlearned("b"), weights=STILL)))
        assert (found.layers, found.severity) == (("a", "b"), Severity.WARNING)
        assert "100 batches passed in train mode" in found.detail
        assert evidence(found)["movement of the weights"] == 0

    def test_a_sample_is_no_proof(self) -> None:
        pair = step(unlearned(), weights=STILL)
        found = only(judge_steps("NC602", pair, values=10_000, values_read=100))
        assert found.confidence is Confidence.MEDIUM
        assert "in the values that were read" in found.detail

    @pytest.mark.parametrize(
        ("batches", "says"),
        [((None, None), "No batch count"), ((1000, 20), "went down"), ((0, 0), "No batch was")],
    )
    def test_what_the_count_says(
        self, batches: tuple[float | None, float | None], says: str
    ) -> None:
        pair = step(unlearned(batches=batches), weights=STILL)
        assert says in only(judge_steps("NC602", pair)).detail

    def test_one_cause_of_several_steps(self) -> None:
        pair = step(unlearned(), weights=STILL)
        found = only(judge_steps("NC602", pair, pair))
        assert "from a.pt → c.pt" in found.detail
        assert "200 batches" in found.detail

    def test_lost(self) -> None:
        lost = unlearned(at_initial_values=(False, True), batches=(1000, 0))
        found = only(judge_steps("NC602", step(lost, weights=STILL)))
        assert found.severity is Severity.ERROR
        assert found.fix.startswith("use a.pt")

    def test_a_frozen_part_needs_known_weights(self) -> None:
        """A guessed neighbour and no γ accuse nobody."""
        assert judge_steps("NC602", step(layer("a"), unlearned("b", affine=None))) == []
        assert judge_steps("NC602", step(layer("a"), unlearned("b", weights=None))) == []
        assert judge_steps("NC602", step(layer("a"), unlearned("b", weights=MOVED))) == []
        found = only(judge_steps("NC602", step(layer("a"), unlearned("b"))))
        assert found.layers == ("b",)

    def test_ranks_are_left_to_their_rule(self) -> None:
        pair = step(unlearned(batches=(7, 7)), weights=STILL)
        assert judge_steps("NC602", pair) == []
        assert len(judge_steps("NC603", pair)) == 1


def _rank(shift: float, ratio: float = 0.0) -> LayerChange:
    return replace(
        unlearned(batches=(7, 7)), mean=Movement(shift, moved=True), variance=Movement(ratio, True)
    )


class TestRanksDisagree:
    """NC603."""

    @pytest.mark.parametrize(
        ("shift", "ratio", "severity"),
        [
            (1.1 * HARMLESS, 0.0, Severity.WARNING),
            (0.9 * HARMLESS, 0.0, Severity.INFO),
            (0.9 * HARMLESS, 0.06, Severity.WARNING),
            (0.9 * ROUNDING, 0.9 * ROUNDING, None),
        ],
    )
    def test_how_far_apart(self, shift: float, ratio: float, severity: Severity | None) -> None:
        for ranks in (True, False):
            found = judge_steps("NC603", step(_rank(shift, ratio), weights=STILL), ranks=ranks)
            assert [f.severity for f in found] == ([severity] if severity else [])

    @pytest.mark.parametrize(
        "other",
        [
            step(replace(_rank(1.0), batches=(7, 8)), weights=STILL),
            step(replace(_rank(1.0), batches=(None, None)), weights=STILL),
            step(replace(_rank(1.0), batches=(0, 0)), weights=STILL),
            step(replace(_rank(1.0), at_initial_values=(False, True)), weights=STILL),
            step(_rank(1.0), weights=STILL, optimizer=(10, 20)),
            step(_rank(1.0), weights=MOVED),
            step(_rank(1.0), weights=None),
        ],
        ids=["counted on", "no count", "zero", "lost", "other step", "learned", "no weights"],
    )
    def test_what_does_not_look_like_ranks(self, other: Step) -> None:
        assert judge_steps("NC603", other) == []

    @pytest.mark.parametrize(
        ("other", "reason"),
        [
            (step(_rank(1.0), weights=STILL, optimizer=(10, 13)), "3 steps apart"),
            (step(layer(), weights=MOVED), "100 batches apart"),
        ],
    )
    def test_ranks_of_other_steps_are_skipped(self, other: Step, reason: str) -> None:
        with pytest.raises(CannotTell, match=reason):
            judge_steps("NC603", other, ranks=True)

    def test_other_weights_are_the_only_finding(self) -> None:
        found = only(judge_steps("NC603", step(replace(_rank(1.0), weights=MOVED)), ranks=True))
        assert (found.severity, found.layers) == (Severity.ERROR, ())


class TestCountMismatch:
    """NC604."""

    @pytest.mark.parametrize(
        ("batches", "says"),
        [((0, 200), "several times"), ((0, 60), "Fewer"), ((0, 170), "No whole factor")],
    )
    def test_layers_apart(self, batches: tuple[float, float], says: str) -> None:
        found = only(
            judge_steps("NC604", step(layer("a"), layer("b"), layer("c", batches=batches)))
        )
        assert (found.layers, found.severity) == (("c",), Severity.INFO)
        assert says in found.detail

    def test_a_count_that_falls(self) -> None:
        found = only(judge_steps("NC604", step(layer("a"), layer("b", batches=(1000, 30)))))
        assert (found.layers, found.severity) == (("b",), Severity.WARNING)
        assert "From 1,000 to 30" in found.detail

    def test_layers_that_stood_still_are_none_of_this(self) -> None:
        assert judge_steps("NC604", step(layer("a"), idle("b"), in_eval_mode("c"))) == []

    @pytest.mark.parametrize(
        ("made", "severity", "says"),
        [
            (100, None, ""),
            (round(100 / (1 + 0.9 * SLACK)), None, ""),
            (round(100 / (1 + 1.5 * SLACK)), Severity.WARNING, "more batches"),
            (50, Severity.INFO, "2 batches"),
            (25, Severity.INFO, "4 batches"),
            (66, Severity.WARNING, "more batches"),
            (140, Severity.WARNING, "fewer batches"),
            (9, None, ""),
            (0, None, ""),
        ],
    )
    def test_against_the_optimizer(self, made: int, severity: Severity | None, says: str) -> None:
        found = judge_steps("NC604", step(layer("a"), layer("b"), optimizer=(1000, 1000 + made)))
        assert [f.severity for f in found] == ([severity] if severity else [])
        assert not found or found[0].title.startswith(says)

    def test_steps_of_a_series_are_added_up(self) -> None:
        pair = step(layer("a"), idle("b"), idle("c"), optimizer=(0, 80))
        found = only(judge_steps("NC604", step(layer(), optimizer=(0, 100)), pair, pair))
        assert "200 batches from b.pt → d.pt" in found.detail
        assert "160 steps" in found.detail

    def test_kinds_of_a_series_are_told_apart(self) -> None:
        paces = [step(layer(), optimizer=(0, made)) for made in (80, 50, 140, 50)]
        found = judge_steps("NC604", *paces)
        assert [f.discriminator for f in found] == ["more", "2 each", "fewer"]
        assert "from b.pt → c.pt and d.pt → e.pt" in found[1].detail
