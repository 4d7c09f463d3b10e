"""From tables to values; every mistake is an error that names file and key."""

import tomllib
from pathlib import Path

import pytest

from normcheck.config.file_values import FileSettings
from normcheck.config.keys import IGNORE, MODEL, TOP
from normcheck.config.parse import parse
from normcheck.config.policy import LayerIgnore
from normcheck.errors import ConfigError
from normcheck.findings import Severity
from normcheck.rules.catalogue import RULES
from normcheck.rules.rule import Rule

FILE = Path("/project/normcheck.toml")


def parsed(text: str) -> FileSettings:
    return parse(tomllib.loads(text), FILE)


def test_everything_that_can_be_said() -> None:
    """All keys, with paths relative to the file."""
    settings = parsed("""
        select = ["NC1", "dead-scale"]
        extend-select = ["NC2"]
        ignore = ["NC504"]
        min-severity = "warning"
        min-confidence = "medium"
        fail-on = "error"
        strict = true
        format = "sarif"
        baseline = "known/baseline.json"

        [models."runs/*.pt"]
        select = ["NC1"]
        ignore = ["NC103"]
        model = "detector.net:build"
        model-args = { width = 32, norm = "batch" }
        data = "data/calibration.npz"
        input-shape = [3, 224, 224]
        batch-size = 16
        device = "cpu"

        [per-layer-ignores]
        "backbone.*" = { rules = ["NC107"], reason = "frozen backbone" }
        "stem" = ["NC504"]

        [rules.under-warmed-stats]
        severity = "info"
        max-residue = 0.02
        [rules.NC110]
        tolerance = 1
    """)
    assert settings.judging.select == ("NC1", "dead-scale")
    assert settings.judging.extend_select == ("NC2",)
    assert settings.judging.ignore == ("NC504",)
    assert settings.judging.min_severity == "warning"
    assert settings.judging.min_confidence == "medium"
    assert settings.judging.fail_on == "error"
    assert settings.judging.strict is True
    assert settings.outputs.formats == ("sarif",)
    assert settings.judging.baseline == str(Path("/project/known/baseline.json"))
    model = settings.models[0]
    assert (model.pattern, model.root) == ("runs/*.pt", Path("/project"))
    assert (model.select, model.ignore) == (("NC1",), ("NC103",))
    assert model.model == "detector.net:build"
    assert dict(model.model_args) == {"width": 32, "norm": "batch"}
    assert model.data == "/project/data/calibration.npz"
    assert (model.input_shape, model.batch_size, model.device) == ((3, 224, 224), 16, "cpu")
    assert settings.layer_ignores == (
        LayerIgnore("backbone.*", ("NC107",), "frozen backbone"),
        LayerIgnore("stem", ("NC504",), ""),
    )
    first, second = settings.rules
    assert (first.code, first.severity, dict(first.options)) == (
        "NC103",
        Severity.INFO,
        {"max-residue": 0.02},
    )
    assert (second.code, dict(second.options)) == ("NC110", {"tolerance": 1.0})


def test_an_empty_file_says_nothing() -> None:
    """Every value stays open for others to set."""
    assert parsed("") == FileSettings(path=FILE)


def test_data_can_be_a_factory_or_an_absolute_path() -> None:
    """A factory is no path."""
    text = '[models."a"]\ndata = "{}"'
    assert parsed(text.format("pkg.data:calibration")).models[0].data == "pkg.data:calibration"
    assert parsed(text.format("/data/x.npz")).models[0].data == "/data/x.npz"


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("selct = []", "selct: unknown key", "did you mean select?"),
        ("fail_on = 'error'", "fail_on: unknown key", "did you mean fail-on?"),
        ("xyzzy = 1", "xyzzy: unknown key", "known here: select"),
        ("select = 'NC1'", "select: should be a list", ""),
        ("select = [1]", "select: should be a list", ""),
        ("select = ['NC9']", "select: no rule is called 'NC9'", "rule --all"),
        ("ignore = ['reset-stat']", "ignore: no rule", "did you mean NC102"),
        ("fail-on = 'info'", "fail-on: 'info' is not one of error, warning", ""),
        ("min-severity = 'eror'", "min-severity: 'eror'", "did you mean error?"),
        ("strict = 'yes'", "strict: should be true or false", ""),
        ("format = 'xml'", "format: 'xml' is not one of text, json", ""),
        ("format = 1", "format: should be a text", ""),
        ("baseline = ''", "baseline: should be a text", ""),
        ("models = 1", "models: should be a table", ""),
        ("trust = true", "trust: a file cannot switch on running code", "--trust"),
        ("[models.'a']\ntrust = true", "models.a.trust: a file cannot switch on", "--trust"),
        ("[models]\n'a.pt' = 1", "models.a.pt: should be a table", ""),
        ("[models.'a']\nbatch_size = 2", "models.a.batch_size: unknown key", "batch-size?"),
        ("[models.'a']\nmodel = 'net'", "models.a.model: 'net' is no factory", "module:function"),
        ("[models.'a']\nmodel = 'a b:c'", "models.a.model: 'a b:c' is no factory", ""),
        ("[models.'a']\nbatch-size = 0", "models.a.batch-size: should be 1 or more", ""),
        ("[models.'a']\nbatch-size = true", "models.a.batch-size: should be a whole", ""),
        ("[models.'a']\ninput-shape = []", "models.a.input-shape: should be a list", ""),
        ("[models.'a']\ninput-shape = [3, 0]", "models.a.input-shape: should be a list", ""),
        ("[models.'a']\nmodel-args = 1", "models.a.model-args: should be a table", ""),
        ("per-layer-ignores = []", "per-layer-ignores: should be a table", ""),
        ("[per-layer-ignores]\n'a' = 1", "per-layer-ignores.a.rules: should be a list", ""),
        ("[per-layer-ignores]\n'a' = []", "per-layer-ignores.a.rules: should name", ""),
        ("[per-layer-ignores]\n'a' = {reason='x'}", "a.rules: should name at least one", ""),
        ("[per-layer-ignores]\n'a' = {rule=['NC1']}", "a.rule: unknown key", "rules?"),
        ("[rules.under-warmed]", "rules.under-warmed: no rule is called", "NC103"),
        ("[rules.NC103]\nmax-residu = 1", "NC103.max-residu: unknown key", "max-residue?"),
        ("[rules.NC103]\nmax-residue = 2", "max-residue: should be a number from 0 to 1", ""),
        ("[rules.NC103]\nmax-residue = nan", "max-residue: should be a number", ""),
        ("[rules.NC103]\nmax-residue = true", "max-residue: should be a number", ""),
        ("[rules.NC103]\nmax-residue = '1%'", "max-residue: should be a number", ""),
        (f"[rules.NC110]\ntolerance = 1{'0' * 400}", "tolerance: should be a number", ""),
        ("[rules.NC104]\nmax-residue = 0.1", "NC104.max-residue: unknown key", "severity"),
        ("[rules.NC103]\nseverity = 'fatal'", "NC103.severity: 'fatal' is not one of", ""),
        (
            "[rules.NC103]\n[rules.under-warmed-stats]",
            "NC103 (under-warmed-stats) is set twice",
            "",
        ),
    ],
)
def test_mistakes_name_file_and_key(text: str, says: str, hint: str) -> None:
    """What is wrong, where, and what may have been meant."""
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    assert caught.value.message.startswith("/project/normcheck.toml: ")
    assert says in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_every_option_of_every_rule_can_be_set(rule: Rule) -> None:
    """To its default, by the rule's code and by its name."""
    for word in (rule.code, rule.name):
        options = "".join(f"{o.name} = {o.default!r}\n" for o in rule.options)
        settings = parsed(f"[rules.{word}]\nseverity = 'error'\n{options}").rules[0]
        assert dict(settings.options) == {o.name: o.default for o in rule.options}


def test_keys_are_in_kebab_case_and_described() -> None:
    """The table of the documentation is made from them."""
    for key in (*TOP, *MODEL, *IGNORE):
        assert key.name == key.name.lower().replace("_", "-")
        assert key.meaning
