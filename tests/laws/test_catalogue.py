"""The whole catalogue: every rule is documented, named by the convention, and selectable."""

import re
from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest

import normcheck.rules
from normcheck.errors import UsageError
from normcheck.findings import Severity
from normcheck.rules.catalogue import FAMILIES, RULES, find, select
from normcheck.rules.rule import Need, Rule, Subject
from tests.rules.layers import HEALTHY

every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)


def headings(rule: Rule) -> list[str]:
    return re.findall(r"^## (.+)$", rule.whole().page, re.MULTILINE)


def section(rule: Rule, heading: str) -> str:
    """The text under a heading of the page."""
    return rule.whole().page.partition(f"## {heading}\n")[2].partition("\n## ")[0]


@every_rule
def test_page_says_what_it_does_and_what_to_do(rule: Rule) -> None:
    """Every page begins with a title line and has the two headings that a reader looks for."""
    assert re.fullmatch(r"[A-Zγ].+\.", rule.whole().page.partition("\n")[0])
    assert headings(rule)[0] == "What it does"
    assert "What to do" in headings(rule)
    assert len(section(rule, "What to do").split()) > 5
    assert re.search(r"^## Why (is this bad|does it matter)\?$", rule.whole().page, re.MULTILINE)


@every_rule
def test_page_explains_how_severe_it_is(rule: Rule) -> None:
    """Every page says how severe a finding is, and names the severity of the catalogue."""
    assert rule.severity.value in section(rule, "How severe").lower()
    assert len(section(rule, "How severe").split()) >= 5


@every_rule
def test_page_says_what_acquits(rule: Rule) -> None:
    """What a rule on a file must not be accused of overlooking: the look-alikes, by name."""
    if rule.need in (Need.STATE, Need.MODULES):
        assert len(section(rule, "Stays silent").split()) > 5


@every_rule
def test_code_and_name_follow_the_convention(rule: Rule) -> None:
    """NC and three digits in a known family, a name in kebab case, a one-line summary."""
    assert re.fullmatch(r"NC\d{3}", rule.code)
    assert rule.code[:3] in FAMILIES
    assert re.fullmatch(r"[a-z]+(-[a-z]+)+", rule.name)
    assert 10 < len(rule.summary) < 72
    assert not rule.summary.endswith(".")


@every_rule
def test_file_is_called_as_the_rule(rule: Rule) -> None:
    """Whoever reads a rule's name finds its file."""
    whole = rule.whole()
    module = import_module(whole.check.__module__)
    assert module.__name__.rpartition(".")[2] == rule.name.replace("-", "_")
    assert module.RULE is whole
    assert whole.page == module.__doc__


@every_rule
def test_the_index_says_what_the_file_says(rule: Rule) -> None:
    """A rule that is not read yet is selected, counted and shown as its file has it."""
    assert replace(rule.whole(), page=rule.page, check=rule.check, file=rule.file) == rule
    assert not (rule.file and rule.options)
    assert not rule.file or rule.need not in (Need.STATE, Need.MODULES)


def test_sorted_and_unique() -> None:
    """Codes rise, and no code or name is given twice."""
    assert all(a.code < b.code for a, b in pairwise(RULES))
    assert len({rule.name for rule in RULES}) == len(RULES) >= 27


def test_every_file_is_in_the_catalogue() -> None:
    """A rule's file that nobody listed would never run."""
    root = Path(str(normcheck.rules.__file__)).parent
    files = [path.relative_to(root) for path in sorted(root.rglob("*.py"))]
    modules = [
        import_module(".".join(("normcheck.rules", *path.with_suffix("").parts))) for path in files
    ]
    assert {m.RULE.code for m in modules if hasattr(m, "RULE")} == {rule.code for rule in RULES}


def test_every_family_has_rules() -> None:
    """No heading without anything under it."""
    assert {rule.code[:3] for rule in RULES} == set(FAMILIES)


def test_other_rules_that_pages_mention_exist() -> None:
    """A name in backquotes that looks like a rule's is one."""
    names = {rule.name for rule in RULES}
    for rule in RULES:
        for word in re.findall(r"`([a-z]+(?:-[a-z]+)+)`", rule.whole().page):
            assert word in names, (rule.code, word)


@pytest.mark.parametrize("healthy", HEALTHY)
@every_rule
def test_healthy_models_are_left_alone(rule: Rule, healthy: str) -> None:
    """No rule has anything to say about a healthy model, not even as info."""
    anatomy = HEALTHY[healthy]
    if rule.need is Need.STATE or (rule.need is Need.MODULES and anatomy.has_modules):
        assert list(rule.judge(Subject(anatomy))) == []


def test_the_severities_of_the_catalogue() -> None:
    """Rules on what healthy models do as well are info at the most."""
    mild = {rule.code for rule in RULES if rule.severity is Severity.INFO}
    assert mild >= {"NC106", "NC110", "NC502", "NC503", "NC504", "NC505"}


@pytest.mark.parametrize("word", ["NC102", "nc102", " Nc102 ", "reset-stats", "RESET-STATS"])
def test_find_in_any_case(word: str) -> None:
    """A rule is found by its code or its name, in any case."""
    assert find(word).code == "NC102"


@pytest.mark.parametrize(
    ("word", "suggested"), [("NC1002", "NC102"), ("reset-stat", "NC102"), ("dead-scales", "NC502")]
)
def test_a_slip_gets_a_suggestion(word: str, suggested: str) -> None:
    """An unknown word is an error that names the nearest rule."""
    with pytest.raises(UsageError) as caught:
        find(word)
    assert f"did you mean {suggested}" in caught.value.hint
    assert repr(word) in caught.value.message


@pytest.mark.parametrize(
    ("word", "there_are"), [("NC999", "NC101 to NC7"), ("nc120", "NC101 to NC1"), ("NC9", "NC101")]
)
def test_a_code_that_is_none_gets_the_range(word: str, there_are: str) -> None:
    """No code is more like it than another."""
    with pytest.raises(UsageError) as caught:
        find(word)
    assert there_are in caught.value.hint
    assert "did you mean" not in caught.value.hint


def test_nonsense_gets_the_list() -> None:
    """A word like no rule's gets no guess."""
    with pytest.raises(UsageError) as caught:
        find("xyzzy")
    assert "did you mean" not in caught.value.hint
    assert "rule --all" in caught.value.hint


def codes(selected: list[str], ignored: list[str] | None = None) -> list[str]:
    return [rule.code for rule in select(selected, ignored or [])]


def test_all_selects_all() -> None:
    """ALL is every rule, in any case and in the catalogue's order."""
    assert codes(["ALL"]) == codes(["all"]) == [rule.code for rule in RULES]


def test_prefixes_codes_and_names() -> None:
    """A family, one code, one name, and several of them together."""
    assert codes(["NC5"]) == [rule.code for rule in RULES if rule.code.startswith("NC5")]
    assert codes(["NC102"]) == codes(["nc102"]) == codes(["reset-stats"]) == ["NC102"]
    assert codes(["dead-scale", "NC101"]) == ["NC101", "NC502"]


def test_nothing_selected_is_nothing() -> None:
    """Without a selector there is no rule."""
    assert codes([]) == []


@pytest.mark.parametrize(
    ("selected", "ignored", "on"),
    [
        (["ALL"], ["NC102"], False),
        (["ALL", "NC102"], ["NC1"], True),
        (["NC1"], ["NC10"], False),
        (["NC10"], ["NC1"], True),
        (["NC102"], ["NC102"], False),
        (["NC102"], ["ALL"], True),
        (["NC102"], ["reset-stats"], False),
        (["reset-stats"], ["NC102"], True),
    ],
)
def test_the_more_specific_selector_wins(selected: list[str], ignored: list[str], on: bool) -> None:
    """A name beats a code, a code a prefix, a prefix ALL; of equals the one that ignores."""
    assert ("NC102" in codes(selected, ignored)) is on


@pytest.mark.parametrize("word", ["NC9", "NC1021", "nonsense", "", "NC 1", "N"])
def test_a_selector_that_matches_nothing_is_an_error(word: str) -> None:
    """A misspelt selector must not silently select, or ignore, nothing."""
    for selected, ignored in (([word], []), (["ALL"], [word])):
        with pytest.raises(UsageError):
            select(selected, ignored)
