"""A rule's page: its docstring, and the options that it declares."""

from normcheck.rules.rule import Rule


def page_of(rule: Rule) -> str:
    """The page in Markdown, without the heading that names the rule."""
    page = rule.whole().page.strip()
    if not rule.options:
        return page
    rows = [
        f"| `{option.name}` | {option.default:g} | {option.unit} | {option.meaning} |"
        for option in rule.options
    ]
    first = rule.options[0]
    return "\n".join(
        [
            page,
            "",
            "## Options",
            "| option | default | unit | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
            "Set them in the configuration file:",
            "",
            f"    [tool.normcheck.rules.{rule.name}]",
            f"    {first.name} = {first.default:g}",
        ]
    )


def markdown_page(rule: Rule) -> str:
    """The page with blank lines around headings, lists and tables, as strict readers want it."""
    lines: list[str] = []
    for line in page_of(rule).splitlines():
        before = lines[-1] if lines else ""
        begins = line.startswith(("- ", "|")) and not before.startswith(("- ", "  ", "|"))
        if before and (begins or before.startswith("## ")):
            lines.append("")
        lines.append(line)
    return "\n".join(lines)


def first_paragraph(rule: Rule) -> str:
    """What the rule does, in a line without markup."""
    does = rule.whole().page.partition("## What it does\n")[2].partition("\n\n")[0]
    return " ".join(does.replace("`", "").split())
