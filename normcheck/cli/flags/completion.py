"""What the shell may offer after a flag."""


def complete_rule(incomplete: str) -> list[tuple[str, str]]:
    """Codes and names of rules that begin like the word at the cursor.

    Args:
        incomplete: What was typed; after a comma, another rule begins.
    """
    from normcheck.rules.catalogue import RULES

    before, comma, begun = incomplete.rpartition(",")
    return [
        (f"{before}{comma}{word}", rule.summary)
        for rule in RULES
        for word in (rule.code, rule.name)
        if word.lower().startswith(begun.lower())
    ]
