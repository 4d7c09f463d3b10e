"""All rules, in the order of their codes, and how words of a user select them.

Adding a rule: write its file, import it here, add it to the tuple.
"""

import difflib
from collections.abc import Sequence

from normcheck.errors import UsageError
from normcheck.rules.behaviour import (
    batch_dependent_eval,
    degenerate_norm,
    eval_changes_state,
    functional_train_norm,
    non_finite_output,
    nondeterministic_eval,
    shared_norm,
    single_sample_crash,
    unexpected_mode_gap,
    unused_norm,
    wrong_axis,
)
from normcheck.rules.between import (
    count_mismatch,
    export_differs,
    ranks_disagree,
    stats_moved_alone,
    stats_stood_still,
)
from normcheck.rules.data import (
    mixed_domains,
    mode_gap,
    small_batch_noise,
    stale_stats,
    unfamiliar_input,
)
from normcheck.rules.design import (
    bias_before_norm,
    dead_scale,
    dropout_before_norm,
    misread_gain,
    non_finite_affine,
    untrained_affine,
)
from normcheck.rules.modes import (
    batch_stats_in_eval,
    eps_too_small,
    eval_not_reaching,
    inconsistent_tracking_flag,
    mixed_modes,
    stale_spectral_norm,
    suspicious_momentum,
    thawed_layer,
    tracked_instance_norm,
    train_mode_export,
    train_mode_in_file,
    uncalled_child,
    uninitialised_norm,
)
from normcheck.rules.rule import Rule
from normcheck.rules.statistics import (
    collapsed_variance,
    damaged_batch_count,
    foreign_stats,
    impossible_stats,
    missing_stats,
    negative_variance,
    never_updated_stats,
    non_finite_stats,
    reset_stats,
    saturated_stats,
    under_warmed_stats,
    uneven_batch_counts,
    unregistered_stats,
)

RULES: tuple[Rule, ...] = (
    never_updated_stats.RULE,
    reset_stats.RULE,
    under_warmed_stats.RULE,
    non_finite_stats.RULE,
    negative_variance.RULE,
    collapsed_variance.RULE,
    missing_stats.RULE,
    foreign_stats.RULE,
    saturated_stats.RULE,
    uneven_batch_counts.RULE,
    damaged_batch_count.RULE,
    unregistered_stats.RULE,
    impossible_stats.RULE,
    train_mode_in_file.RULE,
    mixed_modes.RULE,
    eval_not_reaching.RULE,
    train_mode_export.RULE,
    batch_stats_in_eval.RULE,
    suspicious_momentum.RULE,
    inconsistent_tracking_flag.RULE,
    tracked_instance_norm.RULE,
    uninitialised_norm.RULE,
    eps_too_small.RULE,
    thawed_layer.RULE,
    stale_spectral_norm.RULE,
    uncalled_child.RULE,
    nondeterministic_eval.RULE,
    batch_dependent_eval.RULE,
    eval_changes_state.RULE,
    single_sample_crash.RULE,
    unexpected_mode_gap.RULE,
    functional_train_norm.RULE,
    unused_norm.RULE,
    shared_norm.RULE,
    degenerate_norm.RULE,
    non_finite_output.RULE,
    wrong_axis.RULE,
    stale_stats.RULE,
    mode_gap.RULE,
    small_batch_noise.RULE,
    unfamiliar_input.RULE,
    mixed_domains.RULE,
    non_finite_affine.RULE,
    dead_scale.RULE,
    untrained_affine.RULE,
    bias_before_norm.RULE,
    dropout_before_norm.RULE,
    misread_gain.RULE,
    stats_stood_still.RULE,
    stats_moved_alone.RULE,
    ranks_disagree.RULE,
    count_mismatch.RULE,
    export_differs.RULE,
)

FAMILIES = {
    "NC1": "Statistics in the file",
    "NC2": "Modes and configuration",
    "NC3": "Behaviour of a forward, on any input",
    "NC4": "Against your data",
    "NC5": "Affine parameters and design",
    "NC6": "Between checkpoints (normcheck diff)",
}


def find(word: str) -> Rule:
    """The rule of a code or a name, in any case.

    Raises:
        UsageError: No such rule, with the nearest one as the hint.
    """
    wanted = word.strip().lower()
    for rule in RULES:
        if wanted in (rule.code.lower(), rule.name):
            return rule
    raise unknown(word)


def unknown(word: str) -> UsageError:
    """The error for a word that names no rule."""
    words = [w for rule in RULES for w in (rule.code.lower(), rule.name)]
    near = difflib.get_close_matches(word.lower(), words, n=1, cutoff=0.5)
    hint = "run 'normcheck rule --all' for the list"
    if near:
        rule = find(near[0])
        hint = f"did you mean {rule.code} ({rule.name})? {hint}"
    return UsageError(f"no rule is called {word!r:.60}", hint)


def select(selected: list[str], ignored: list[str]) -> tuple[Rule, ...]:
    """The rules that selectors leave on: codes, names, prefixes (``NC1``) or ``ALL``.

    The more specific selector wins; of two equally specific ones the one that ignores.

    Raises:
        UsageError: A selector that matches nothing.
    """
    for word in (*selected, *ignored):
        check_selector(word)
    return narrow(RULES, selected, ignored)


def check_selector(word: str) -> None:
    """See that a selector means at least one rule.

    Raises:
        UsageError: It means none; the nearest rule is the hint.
    """
    if not any(matches(word, rule) for rule in RULES):
        raise unknown(word)


def narrow(rules: Sequence[Rule], selected: list[str], ignored: list[str]) -> tuple[Rule, ...]:
    """Those of ``rules`` that selectors leave on; the selectors are known to be sound."""
    return tuple(
        rule
        for rule in rules
        if max((matches(word, rule) for word in selected), default=0)
        > max((matches(word, rule) for word in ignored), default=0)
    )


def matches(word: str, rule: Rule) -> int:
    """How specifically a selector means a rule; 0 where it does not."""
    wanted = word.strip()
    if wanted.upper() == "ALL":
        return 1
    if wanted.lower() == rule.name:
        return 100
    code = wanted.upper()
    return 1 + len(code) if code.startswith("NC") and rule.code.startswith(code) else 0
