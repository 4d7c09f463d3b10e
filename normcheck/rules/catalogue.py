"""All rules, in the order of their codes, and how words of a user select them.

A rule is a file in one of the folders beside this one that holds a ``RULE``: nobody lists it. Of
rules that see more than a file the catalogue knows what their files say of them (``index.py``,
which is generated), so that a scan of files reads only what can judge those.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module

from normcheck.errors import UsageError
from normcheck.findings import Severity
from normcheck.rules import design, modes, statistics
from normcheck.rules.index import INDEX
from normcheck.rules.rule import Need, Rule
from normcheck.wording import nearest

FAMILIES = {
    "NC1": "Statistics in the file",
    "NC2": "Modes and configuration",
    "NC3": "Behaviour of a forward, on any input",
    "NC4": "Against your data",
    "NC5": "Affine parameters and design",
    "NC6": "Between checkpoints (normcheck diff)",
    "NC7": "While training (normcheck.guard)",
}


_CODE_LENGTH = 5


def _found() -> Iterator[Rule]:
    for code, name, summary, severity, need, folder in INDEX:
        file = f"normcheck.rules.{folder}.{name.replace('-', '_')}"
        yield Rule(code, name, summary, Severity(severity), Need(need), file=file)
    for package in (statistics, modes, design):
        for file in _files(package.__path__):
            # What rules of a folder share lies beside them, and is no rule.
            rule = getattr(import_module(f"{package.__name__}.{file}"), "RULE", None)
            if isinstance(rule, Rule):
                yield rule


def _files(path: Iterable[str]) -> set[str]:
    """The names of the modules in a folder."""
    try:
        names = [name for folder in path for name in os.listdir(folder)]
    except OSError:  # within a zip
        import pkgutil  # takes longer than the listing

        return {entry.name for entry in pkgutil.iter_modules(path)}
    return {
        name.partition(".")[0]
        for name in names
        if name.endswith((".py", ".pyc")) and not name.startswith("_")
    }


RULES: tuple[Rule, ...] = tuple(sorted(_found(), key=lambda rule: rule.code))


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
    hint = "run 'normcheck rule --all' for the list"
    code = word.strip().upper()
    if code.startswith("NC") and code[2:].isdigit() and len(code) <= _CODE_LENGTH:
        # One code is no more like it than another.
        codes = [rule.code for rule in RULES]
        family = [known for known in codes if known.startswith(code[:3])] or codes
        return UsageError(
            f"no rule is called {word!r:.60}",
            f"there are {family[0]} to {family[-1]}: {hint}",
        )
    words = [w for rule in RULES for w in (rule.code.lower(), rule.name)]
    near = nearest(word.lower(), words, alike=0.5)
    if near:
        rule = find(near)
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
