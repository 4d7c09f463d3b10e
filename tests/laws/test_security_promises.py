"""Every sentence of SECURITY.md is held by a test, or promises nothing."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = ("What is promised", "What is not promised")

PROMISES: dict[str, tuple[str, ...]] = {
    # ---- what is promised ---------------------------------------------------------------------
    "**Nothing of the file runs.**": (
        "test_hostile::test_nothing_runs",
        "test_hostile::test_published_bypasses",
        "test_archives::test_polyglots",
    ),
    "The pickle machine has no instruction that calls or imports.": (
        "test_machine::test_calls_are_remembered_not_made",
        "test_hostile::test_pickles_of_every_protocol",
    ),
    "Names stay text.": ("test_machine::test_objects_stay_inert",),
    "torch is not imported.": ("test_without_torch::test_the_package_imports_no_torch",),
    "With `--run`, a module tree is rebuilt": (
        "test_rebuild_hostile::test_only_torchs_modules_by_any_path",
        "test_rebuild_hostile::test_nothing_runs",
        "test_rebuild::test_foreign_code_is_named",
    ),
    "**TorchScript and `.pt2` are read as text.**": (
        "test_hostile_exports::test_scripts",
        "test_hostile_exports::test_programs",
    ),
    "TorchScript's code is parsed": (
        "test_hostile_exports::test_scripts",
        "test_hostile_exports::test_every_place_with_every_type",
    ),
    "What follows them counts its steps": ("test_hostile_exports::test_scripts",),
    "Pickles inside of either": (
        "test_exported_program::test_pickled_weights",
        "test_hostile_exports::test_programs",
    ),
    "**Nothing is written**": (
        "test_hostile::test_nothing_runs",
        "test_untouched::test_nothing_of_it_changes",
    ),
    "An output replaces regular files only": (
        "test_places::test_a_device_stays_one",
        "test_places::test_a_link_is_followed",
        "test_places::test_a_fifo_is_written_into",
        "test_places::test_a_socket_is_written_into",
    ),
    "Scanned files are opened for reading": (
        "test_hostile::test_nothing_runs",
        "test_untouched::test_nothing_of_it_changes",
    ),
    "**Archives are read, not unpacked.**": ("test_hostile_boxes::test_nothing_is_unpacked",),
    "Nothing of a zip, tar, gzip, zlib, zstd, xz, LZMA or bzip2 file is written": (
        "test_hostile_boxes::test_nothing_is_unpacked",
        "test_hostile_boxes::test_links_are_not_followed",
        "test_hostile_boxes::test_all_layers_count_together",
    ),
    "Names that lead out of the archive": (
        "test_hostile_boxes::test_names_that_lead_out",
        "test_hostile_boxes::test_two_members_of_one_name",
        "test_hostile_boxes::test_nested_without_end",
        "test_hostile_boxes::test_bomb",
    ),
    "**What torch does otherwise is said.**": ("test_torch_archive::test_what_a_user_sees",),
    "Archives that `torch.load` refuses": (
        "test_torch_archive::test_torch_refuses_where_we_say_so",
    ),
    "Names that `torch.load` does not take": ("test_safe_names::test_files_that_need_trust",),
    "It compares names with the list of torch 2.13": ("test_safe_names::test_the_table_is_torchs",),
    "**A file does not say how it is probed.**": (
        "test_faulty_files::test_a_file_does_not_say_how_it_is_probed",
    ),
    "A module that holds itself": (
        "test_faulty_files::test_a_fault_is_the_files",
        "test_faulty_files::test_a_file_does_not_say_how_it_is_probed",
    ),
    "No network, unless you name an address": (
        "test_hostile::test_nothing_runs",
        "test_http::test_local_scans_import_nothing_of_it",
        "test_redirects::test_another_host_is_named_and_not_asked",
    ),
    "**Secrets in addresses are not shown**": (
        "test_place::test_what_is_shown",
        "test_place::test_text_of_other_programs",
        "test_http::test_secrets_are_never_shown",
        "test_s3::test_keys_in_the_address_are_not_shown",
    ),
    "Credentials are looked for by": ("test_s3::test_no_credentials",),
    "**A web server leads no further than to itself.**": (
        "test_redirects::test_another_host_is_named_and_not_asked",
        "test_redirects::test_the_same_host_is_followed",
        "test_redirects::test_patterns_and_folders_follow_no_further",
    ),
    "A redirect of an `http` or `https` address": (
        "test_redirects::test_another_host_is_named_and_not_asked",
        "test_redirects::test_another_port_of_a_host_is_another_server",
        "test_redirects::test_from_a_safe_way_to_an_open_one",
        "test_redirects::test_the_flag",
        "test_redirects::test_a_host_that_was_allowed_leads_no_further",
    ),
    "Whatever is allowed, a public server": (
        "test_redirects::test_a_public_server_leads_to_no_private_one",
        "test_redirects::test_a_name_that_stands_for_a_private_address",
        "test_redirects::test_addresses_that_are_not_public",
    ),
    "**A configuration file runs nothing.**": (
        "test_run_flags::test_a_configuration_alone_imports_nothing",
        "test_run_flags::test_the_configuration_names_factory_and_data_but_runs_nothing",
    ),
    "What only it names": (
        "test_run_flags::test_a_configuration_alone_imports_nothing",
        "test_run_flags::test_trust_in_a_configuration_is_a_flag_of_its_own",
    ),
    "Trust is no key of it": (
        "test_run_flags::test_trust_in_a_configuration_is_a_flag_of_its_own",
        "test_run_flags::test_data_of_a_configuration_that_are_only_read",
        "test_run_flags::test_data_that_became_code_meanwhile_are_not_imported",
    ),
    "**A cache is believed only where this user wrote it.**": (
        "test_result_cache::test_a_cache_of_another_user_is_not_believed",
        "test_result_cache::test_whoever_writes_to_the_cache_runs_nothing",
    ),
    "Each row carries a keyed hash": (
        "test_seal::test_a_seal_is_of_its_parts_in_their_order",
        "test_result_cache::test_a_row_under_another_name_is_not_believed",
    ),
    "The key is a file that its owner alone can read": (
        "test_seal::test_it_is_made_once_for_the_owner_alone",
        "test_seal::test_a_key_that_others_may_know_or_that_is_none",
        "test_seal::test_a_secret_of_the_environment",
    ),
    "A row of another key": (
        "test_result_cache::test_a_row_under_another_name_is_not_believed",
        "test_result_cache::test_a_cache_of_another_user_is_not_believed",
        "test_result_cache::test_damaged_entries_cost_time_and_nothing_else",
        "test_result_cache::test_stamps_of_another_file_do_not_vouch_even_with_the_key",
        "test_result_cache::test_without_a_key_there_is_no_cache",
    ),
    "**Between processes, and out of a cache, come values only.**": (
        "test_wire::test_the_way_back",
        "test_wire::test_only_plain_values_can_be_built",
    ),
    "They are JSON that names no class": (
        "test_wire::test_the_way_back",
        "test_wire::test_only_plain_values_can_be_built",
        "test_wire::test_enumerations_have_their_own_members_only",
        "test_wire::test_damage_is_refused_or_changes_a_value",
    ),
    "Lengths, parts and what unfolds": (
        "test_wire::test_what_is_packed_to_unfold_does_not",
        "test_wire::test_nesting_and_parts_end",
        "test_wire::test_an_array_that_is_none",
    ),
    "A process that ran a model can say": (
        "test_local_processes::test_a_result_of_another_file_is_no_result",
    ),
    "**Names from files command nothing.**": (
        "test_hostile_words::test_scan_and_diff_in_every_form",
        "test_hostile_words::test_errors_that_quote_a_word",
    ),
    "In every form of the report and on stderr": (
        "test_hostile_words::test_scan_and_diff_in_every_form",
        "test_hostile_words::test_text_at_any_width",
        "test_hostile_names::test_every_form_may_be_shown_in_a_log",
        "test_hostile_names::test_printable_is_harmless_and_says_it_once",
    ),
    "In JSON such signs are written as numbers": (
        "test_hostile_names::test_json_says_the_same_whatever_it_may_not_show",
    ),
    "**Reading is bounded.**": ("test_appetites::test_memory", "test_hostile::test_bombs"),
    "Memory that a file's structure may take": (
        "test_appetites::test_memory",
        "test_appetites::test_memory_of_the_process",
        "test_security_numbers::test_memory_of_a_file_s_structure_ends_at_2_gib",
    ),
    "The error names the limit.": (
        "test_security_numbers::test_a_limit_is_named_and_raised_by_its_flag",
    ),
    "`--limit NAME=N` raises one": (
        "test_security_numbers::test_a_limit_is_named_and_raised_by_its_flag",
        "test_security_numbers::test_a_configuration_raises_no_limit",
    ),
    "**Ambiguity is an error.**": ("test_archives::test_archives_that_are_refused",),
    "Archives with two members of one name": (
        "test_archives::test_archives_that_are_refused",
        "test_archives::test_polyglots",
        "test_safetensors::test_damaged_headers",
        "test_safetensors::test_impossible_entries",
    ),
    "**Damage is said where the format can show it.**": (
        "test_archives::test_every_bit_of_an_archive",
    ),
    "Members of a torch zip are held": (
        "test_archives::test_every_bit_of_an_archive",
        "test_archives::test_part_of_a_storage",
    ),
    "Legacy files, plain pickles and safetensors have no checksums": (
        "test_archives::test_files_without_checksums",
    ),
    "Every other file ends in a report": (
        "test_exit_codes::test_a_folder_of_everything",
        "test_fuzz::test_mutations",
        "test_damaged::test_random_damage",
        "test_hostile_exports::test_every_place_with_every_type",
    ),
    "A traceback or a hang is a bug.": (
        "test_exit_codes::test_no_crash_looks_like_a_verdict",
        "test_hostile::test_bombs",
    ),
    # ---- what is not promised, and what is all the same ---------------------------------------
    "*`.pt2`*: normcheck calls the operators": (
        "test_run_program::test_outputs_are_those_of_the_model",
    ),
    "It does not use `torch.export.load`": (
        "test_program_is_closed::test_no_pickle_of_it_is_loaded",
    ),
    "Only operators of ATen are called": (
        "test_run_program::test_only_operators_of_aten_are_called",
        "test_program_is_closed::test_other_targets_are_refused",
    ),
    "It runs in the child process": (
        "test_isolated_run::test_what_ends_a_process",
        "test_program_is_closed::test_memory_is_an_entry_of_the_report",
    ),
    "*TorchScript* runs only with `--trust`.": ("test_run_program::test_torchscript_needs_trust",),
    "That it will run is printed before": ("test_run_flags::test_trust_is_said_before_it_runs",),
    "*ONNX* is given to ONNX Runtime": ("test_onnx_session::test_what_is_in_the_file_runs",),
    "What the pickle names is printed before it runs": (
        "test_run_flags::test_trust_is_said_before_it_runs",
        "test_isolated_run::test_what_ends_a_process",
    ),
    "**`--model`, `--data pkg.mod:loader` and `--trust-config` import": (
        "test_model_factory::test_factory_is_found_and_called",
        "test_run_flags::test_trust_in_a_configuration_is_a_flag_of_its_own",
    ),
    "torch before 2.6 may run code": ("test_security_numbers::test_data_of_the_oldest_form",),
    "**`--data FILE.pt`** is read by": ("test_security_numbers::test_data_of_the_oldest_form",),
    "It exists so that a crash": (
        "test_isolated_run::test_what_ends_a_process",
        "test_security_numbers::test_bounds_of_the_process_in_which_models_run",
    ),
    "Of a remote file up to 128 MiB": (
        "test_security_numbers::test_what_is_kept_of_a_remote_file",
    ),
    "A file that changes while it is read": (
        "test_archives::test_file_that_changes_while_it_is_read",
        "test_archives::test_small_file_that_changes_while_it_is_read",
        "test_http::test_a_file_that_changes",
    ),
    "The index of a sharded model": (
        "test_sharded::test_index_that_leads_out_of_its_folder",
        "test_security_numbers::test_a_shard_may_be_a_link",
    ),
    "Paths are followed as you give them": ("test_source::test_symbolic_link",),
}
"""Beginnings of sentences, and the tests that hold them: name of the file, and the function."""

DISCLAIMERS = (
    "With `--plot`, matplotlib keeps a list of fonts",
    "What the code of a model prints",
    "Compare hashes.",
    "**`--run` on an export runs numbers through native code.**",
    "Three kinds of export, three answers:",
    "But ATen was not written to be fed",
    "`torch.jit.load` and the interpreter behind it",
    "Neither its parser nor its operators",
    "**`--trust` runs the file's code with your rights**",
    "Use it for files that you would load anyway.",
    "**Libraries that open addresses of their own**",
    "Behind a proxy the proxy finds the hosts",
    "**A Ray cluster is trusted like the program.**",
    "Its own protocol unpickles",
    "**The process in which models run is no sandbox.**",
    "Code in it can do what you can do.",
    "For code that you do not trust",
    "Memory for the numbers of norms",
    "Of a remote archive the members that are not read",
)
"""Beginnings of sentences that promise nothing: warnings, reasons, advice."""

_BETWEEN = re.compile(r"(?<=[.:])\s+(?=[A-Z`*]|torch )|(?<=[.:]\*\*)\s+(?=[A-Z`*])")
"""Two sentences, the first perhaps in bold."""


@cache
def sentences() -> tuple[str, ...]:
    """Those of the two sections, one line each."""
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    found: list[str] = []
    for section in re.split(r"^## ", text, flags=re.MULTILINE):
        if not section.startswith(SECTIONS):
            continue
        body = section.partition("\n")[2]
        for item in re.split(r"\n\s*\n|^\s*- ", body, flags=re.MULTILINE):
            line = " ".join(item.split())
            found += _BETWEEN.split(line)
    return tuple(sentence for sentence in found if sentence)


def functions_of(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name for node in ast.walk(tree) if isinstance(node, functions)}


def test_every_sentence_is_held_by_a_test_or_promises_nothing() -> None:
    """A new sentence needs an entry here, and with it a test."""
    assert len(sentences()) > 60
    known = (*PROMISES, *DISCLAIMERS)
    without = [s for s in sentences() if not s.startswith(known)]
    assert not without, "\n".join(without)
    # And none is here that SECURITY.md no longer has.
    assert not [key for key in known if not any(s.startswith(key) for s in sentences())]


@pytest.mark.parametrize("promise", PROMISES)
def test_its_tests_exist(promise: str) -> None:
    """Under the names that are written here."""
    assert PROMISES[promise]
    for name in PROMISES[promise]:
        stem, _, function = name.partition("::")
        files = list((ROOT / "tests").rglob(f"{stem}.py"))
        assert any(function in functions_of(file) for file in files), name
