"""Which function writes which form of the report; each is imported where it is wanted."""

from pathlib import Path

from normcheck.report.report import Report


def render(report: Report, form: str, root: Path) -> str:
    """The report in a form for machines, which is the same on every terminal.

    Args:
        report: The finished report.
        form: ``json``, ``json-v1``, ``json-lines``, ``sarif``, ``junit``, ``github`` or
            ``markdown``.
        root: The folder to which file names in SARIF, JUnit and annotations are relative.

    Raises:
        ValueError: There is no such form.
    """
    match form:
        case "json" | "json-v1":
            from normcheck.report.machines.as_json import render_json

            return render_json(report)
        case "json-lines":
            from normcheck.report.machines.as_json_lines import render_json_lines

            return render_json_lines(report)
        case "sarif":
            from normcheck.report.machines.as_sarif import render_sarif

            return render_sarif(report, root)
        case "junit":
            from normcheck.report.machines.as_junit import render_junit

            return render_junit(report, root)
        case "github":
            from normcheck.report.machines.as_github import render_github

            return render_github(report, root)
        case "markdown":
            from normcheck.report.people.as_markdown import render_markdown

            return render_markdown(report)
    raise ValueError(f"no form of the report is called {form!r}")
