"""Answers against chance: whether a share of right answers says anything, and two differ."""

from __future__ import annotations

from math import comb, exp, lgamma, log, log1p
from typing import TYPE_CHECKING

from normcheck.live.hits import ONE_SIDED
from normcheck.wording import number, percent, plural

if TYPE_CHECKING:
    from normcheck.live.hits import Answers, Skill
    from normcheck.live.measurement import AgainstData

BEYOND_GUESSING = 0.01
"""Probability that guessing gives so many right answers, below which a model knows something."""
_NEARLY_ALL = 2.58
"""Deviations of the interval's upper end, one-sided 0.5 %."""
_LITTLE = 0.3
"""Share of the way from guessing to perfect below which the upper end has to lie: with too few
samples a model that knows something looks like one that guesses."""
_SURE = 2.33
"""Deviations, one-sided 1 %, from which outputs are above guessing by any measure."""
_SEEN = 0.05
"""By how much the most frequent label has to beat guessing to be worth a word: labels of equal
classes differ by less in 256 samples."""
_ANOTHER_UNIT = 0.5
"""Correlation with the labels from which numbers were predicted, in another unit."""


def sign_test(more: int, fewer: int) -> float:
    """Probability of at least ``more`` of all changed answers going one way by chance.

    The exact one-sided test of McNemar.
    """
    total = more + fewer
    if total > 1000:
        return 0.0 if more - fewer > 4 * total**0.5 else 1.0
    return float(sum(comb(total, k) for k in range(more, total + 1)) / 2**total)


def at_chance(answers: Answers | None) -> bool:
    """Whether a model is, for all that these samples show, as wrong as guessing, or more."""
    if answers is None or answers.chance >= 1:
        return False
    if at_least(answers.right, answers.samples, answers.chance) < BEYOND_GUESSING:
        return False
    most = answers.chance + _LITTLE * (1 - answers.chance)
    return upper_end(answers.right, answers.samples) < most


def knows_nothing(skill: Skill | None) -> bool:
    """The same of numbers, and of decisions at many places of a sample."""
    return skill is not None and skill.t < _SURE and skill.most < _LITTLE


def guesses(data: AgainstData) -> bool:
    """Whether the model, in eval mode, knows nothing of the user's labels."""
    return at_chance(data.answers) or knows_nothing(data.skill)


def both_guess(data: AgainstData) -> bool:
    """Whether it is so with the stored statistics and with re-estimated ones."""
    return guesses(data) and (at_chance(data.given_answers) or knows_nothing(data.given_skill))


def skill_in_words(skill: Skill) -> str:
    """``it explains 85 % of the labels' variance``, and what guessing gives."""
    if skill.of == "places":
        hit = f"its answers for other samples hit {percent(skill.chance)} of the places"
        if skill.share <= 0:
            return f"it hits no more places than by chance ({hit})"
        return f"it gets {percent(skill.share)} right of what is wrong by chance ({hit})"
    if skill.share <= 0:
        text = (
            f"it explains none of the labels' variance (R² = {number(skill.share)}; always their "
            "mean: 0)"
        )
    else:
        text = (
            f"it explains {percent(skill.share)} of the labels' variance (always their mean: 0 %)"
        )
    if knows_nothing(skill) and skill.correlation > _ANOTHER_UNIT:
        text += (
            f". Yet they go together (correlation {number(skill.correlation)}): outputs are in "
            "another unit than the labels, or have another offset"
        )
    return text


def at_least(right: int, samples: int, chance: float) -> float:
    """Probability of so many right answers or more, where each is right by chance (binomial)."""
    if right <= 0:
        return 1.0
    terms = (
        lgamma(samples + 1) - lgamma(k + 1) - lgamma(samples - k + 1)
        + k * log(chance) + (samples - k) * log1p(-chance)
        for k in range(right, samples + 1)
    )  # fmt: skip
    return min(1.0, sum(map(exp, terms)))


def is_blind(answers: Answers) -> bool:
    """Whether labels are nearly of one class and always answering it would be as good.

    Rare events look so, too, where a model is right not to answer them for sure: it is no fault,
    but what statistics do to such answers is not seen.
    """
    largest = answers.most_frequent
    return largest >= ONE_SIDED and answers.right <= largest * answers.samples + 0.5


def upper_end(right: int, samples: int) -> float:
    """Upper end of Wilson's interval for the share of right answers."""
    z, share = _NEARLY_ALL, right / samples
    middle = share + z * z / (2 * samples)
    half = z * (share * (1 - share) / samples + z * z / (4 * samples * samples)) ** 0.5
    return float((middle + half) / (1 + z * z / samples))


def places_in_words(
    before: float, after: float, skill: tuple[Skill, Skill], healed: int, harmed: int
) -> str:
    """Two shares of places that are answered right, what guessing gives, and whether they differ.

    Args:
        before: In eval mode.
        after: Under re-estimated statistics.
        skill: What each is above guessing.
        healed: Samples that are answered better ``after``.
        harmed: Samples that are answered better ``before``.
    """
    text = (
        f"On {plural(skill[0].samples, 'labelled sample')} {percent(before)} of the places are "
        f"answered right with the stored statistics and {percent(after)} with statistics "
        f"re-estimated from other samples (its answers for other samples hit "
        f"{percent(skill[0].chance)}): "
    )
    if all(map(knows_nothing, skill)):
        return f"{text}both are at chance, so accuracy decides nothing between them."
    changed = f"{plural(healed, 'sample')} become better, {harmed} worse"
    return f"{text}{changed}{_by_chance(healed, harmed)}"


def in_words(stored: Answers, given: Answers | None, healed: int, harmed: int) -> str:
    """Two accuracies on the same samples, what guessing gives, and whether they differ.

    Args:
        stored: In eval mode.
        given: Under re-estimated statistics; None where there are none.
        healed: Samples that are right only under ``given``.
        harmed: Samples that are right only under ``stored``.
    """
    chance = f"guessing gives {percent(stored.chance)}"
    if stored.most_frequent > stored.chance + _SEEN:
        chance += f", always the most frequent label {percent(stored.most_frequent)}"
    text = f"On {plural(stored.samples, 'labelled sample')} accuracy is "
    text += f"{percent(stored.right / stored.samples)} with the stored statistics"
    if given is None:
        return f"{text}; {chance}."
    text += (
        f" and {percent(given.right / given.samples)} with statistics re-estimated from other "
        f"samples ({chance}): "
    )
    if at_chance(stored) and at_chance(given):
        return f"{text}both are at chance, so accuracy decides nothing between them."
    become = "becomes" if healed == 1 else "become"
    changed = f"{plural(healed, 'answer')} {become} right, {harmed} wrong"
    return f"{text}{changed}{_by_chance(healed, harmed)}"


def _by_chance(healed: int, harmed: int) -> str:
    """The end of a sentence that counts what changed: whether chance gives as much."""
    p = sign_test(max(healed, harmed), min(healed, harmed))
    if p < BEYOND_GUESSING:
        return f" (sign test: p = {number(p)})."
    return ", no more than chance gives."
