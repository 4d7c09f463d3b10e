"""The words of a configuration file: each key with its form, its default and its meaning.

The parser, its suggestions and the table in the documentation are made from these.
"""

from dataclasses import dataclass

from normcheck.report.forms import NAMES


@dataclass(frozen=True, slots=True)
class Key:
    """One key of one table."""

    name: str
    """In kebab case."""
    form: str
    """What its value looks like, in words."""
    default: str
    """As it would stand in the file."""
    meaning: str


FORMATS = NAMES
"""Forms of the report, in the order of the documentation."""
SEVERITIES = ("error", "warning", "info")
FAILING = ("error", "warning")
"""Severities that can fail a run: info never does."""
CONFIDENCES = ("high", "medium", "low")

TOP = (
    Key("select", "list of selectors", '["ALL"]', "rules to run"),
    Key("extend-select", "list of selectors", "[]", "rules to run besides"),
    Key("ignore", "list of selectors", "[]", "rules to leave out; the more specific word wins"),
    Key("min-severity", "error, warning or info", '"info"', "milder findings are suppressed"),
    Key("min-confidence", "high, medium or low", '"low"', "less sure findings are suppressed"),
    Key("fail-on", "error or warning", '"warning"', "exit with 1 from this severity on"),
    Key("strict", "true or false", "false", "exit with 2 where a rule or file was skipped"),
    Key("format", f"one of {', '.join(FORMATS)}", '"text"', "form of the report"),
    Key("baseline", "path", "none", "findings that are known already"),
    Key("models", "table of tables by pattern", "{}", "settings of some models, see below"),
    Key("per-layer-ignores", "table by pattern", "{}", "findings on layers that are as wanted"),
    Key("rules", "table of tables by rule", "{}", "severity and thresholds of a rule"),
)

MODEL = (
    Key("select", "list of selectors", "as the run", "rules for these models"),
    Key("ignore", "list of selectors", "[]", "rules to leave out for these models"),
    Key("model", "package.module:function", "none", "factory that builds the model"),
    Key("model-args", "table", "{}", "keyword arguments of the factory"),
    Key("data", "path or package.module:function", "none", "inputs as the model meets them"),
    Key("input-shape", "list of sizes", "none", "shape of one sample, where there is no data"),
    Key("batch-size", "whole number", "none", "samples in a batch"),
    Key("device", "text", "none", "where to run the model: cpu, cuda, cuda:1, mps"),
)

IGNORE = (
    Key("rules", "list of selectors", "", "the rules that are ignored on these layers"),
    Key("reason", "text", '""', "why; every output shows it"),
)

ENVIRONMENT = {
    "NORMCHECK_CONFIG": "--config",
    "NORMCHECK_FAIL_ON": "--fail-on",
    "NORMCHECK_FORMAT": "--format",
    "NORMCHECK_OUTPUT_FILE": "--output-file",
}
"""Variables that CI sets, and the flags that they stand for; a flag wins."""
