"""What new users have stumbled over, by number, and the tests that hold each of it off."""

from __future__ import annotations

import re

import pytest

from tests.support.models import ROOT

STUMBLES: dict[str, list[str]] = {
    "1: a full context in the dashboard is a dead end": [
        "tests/browser/test_chat.py::test_a_full_context_is_trimmed_and_said",
        "tests/browser/test_errors.py::test_an_error_has_a_way_out",
        "tests/server/test_completions.py::test_a_prompt_that_is_too_long",
    ],
    "2: a server without a model names no way to one, and does not see the file that appears": [
        "tests/unit/test_shell.py::test_two_lines_lead_to_a_model",
        "tests/unit/backend/test_supervisor.py::test_a_model_that_appears_is_loaded",
        "tests/unit/backend/test_watch.py::test_a_file_is_taken_once_two_looks_see_it_the_same",
    ],
    "3: Debian 12's pip does not know an option of the documentation": [
        "tests/unit/docs/test_docs.py::test_build_options_are_given_as_the_pip_of_debian_12_knows_them",
    ],
    "4: the first examples are answered with nonsense": [
        "tests/packaging/test_readmes.py::test_every_command_works_from_the_top",
        "tests/server/test_sampling.py::test_what_is_not_said_is_as_the_model_wants_it",
        "tests/unit/backend/test_sampling.py::test_what_the_makers_published",
    ],
    "5: the logged address shows JSON in a browser": [
        "tests/server/test_root.py::test_a_browser_gets_the_page",
        "tests/browser/test_root_page.py::test_in_the_reader_s_language",
    ],
    "6: a setting that cannot be used shows only after the start": [
        "tests/e2e/test_tuned.py::test_a_kernel_that_is_not_there_stops_the_start",
        "tests/unit/backend/test_kernels.py::test_a_kernel_that_is_not_there_names_its_variable_and_the_choices",
        "tests/unit/backend/test_kernels.py::test_a_tuned_file_with_another_builds_kernel_is_named",
        "tests/server/test_main.py::test_a_path_that_cannot_be_used_stops_the_start_and_names_its_variable",
        "tests/unit/test_config.py::test_a_model_path_that_is_a_folder_names_the_models_in_it",
        "tests/unit/test_config.py::test_an_address_is_told_from_what_people_put_around_it",
        "tests/unit/test_tuned.py::test_more_threads_than_cpus_are_doubted",
    ],
    "7: what the log says of Ctrl-C is not what happens": [
        "tests/server/test_main.py::test_a_second_signal_does_not_wait",
        "tests/server/test_main.py::test_a_signal_while_nothing_runs_promises_nothing",
        "tests/server/test_main.py::test_two_signals_that_come_together_are_one",
        "tests/server/test_main.py::test_requests_that_do_not_end_in_time_are_ended",
        "tests/server/test_main.py::test_an_interrupt_in_the_middle_of_the_start_is_one_line",
    ],
    "8: the machine's own name, and host:port, are refused": [
        "tests/unit/web/test_guard.py::test_a_server_that_others_can_reach_has_its_machines_own_names",
        "tests/unit/web/test_guard.py::test_a_server_of_the_loopback_alone_does_not",
        "tests/unit/web/test_guard.py::test_an_allowed_name_with_a_port_is_allowed_with_that_port",
    ],
    "9: commands that are shown cannot be pasted": [
        "tests/unit/test_shell.py::test_off_path_it_is_the_absolute_path",
        "tests/unit/test_shell.py::test_without_a_script_it_is_this_python",
        "tests/unit/cli/test_fetch.py::test_elsewhere_the_next_command_has_the_path",
        "tests/unit/docs/test_docs.py::test_commands_of_sheily_that_a_page_names_exist",
    ],
    "10: --version is not taken": [
        "tests/unit/test_programs.py::test_help_version_and_what_is_not_taken",
        "tests/unit/test_programs.py::test_llama_cpp_is_named",
    ],
    "11: tuning compares kernels that cannot apply, and is silent about a busy machine": [
        "tests/native/test_tune.py::test_kernels_are_for_q8_0_and_are_not_compared_for_other_weights",
        "tests/unit/native/tune/test_report.py::test_why_no_other_kernels_are_tried",
        "tests/unit/native/tune/test_search.py::test_on_a_slow_machine_runs_are_shorter_and_no_candidate_is_left_out",
        "tests/unit/native/test_busy.py::test_a_quiet_machine_is_not_mentioned",
    ],
    "12: a short LLM_TIMEOUT is a 200 with one token, or a 504": [
        "tests/unit/engine/test_worker.py::test_a_first_token_that_comes_after_the_deadline_is_none",
        "tests/unit/engine/test_worker.py::test_an_answer_that_began_before_the_deadline_keeps_its_text",
        "tests/server/test_faults.py::test_a_deadline_is_the_same_to_every_dialect",
    ],
    "13: sentences that are not plain": [
        "tests/unit/docs/test_messages.py::test_sentences_are_plain",
        "tests/unit/api/test_wording.py::test_sentences",
        "tests/unit/backend/test_gguf.py::test_what_is_wrong_is_named",
        "tests/unit/web/test_binding.py::test_a_port_in_use_names_the_setting_and_who_has_it",
        "tests/unit/web/test_binding.py::test_the_words_of_the_http_library_are_not_shown",
        "tests/server/test_main.py::test_a_second_server_says_that_the_first_has_the_port",
    ],
    "13: requests that their client gave up are logged as 200": [
        "tests/server/test_endings.py::test_a_whole_answer_that_nobody_takes_is_no_200",
        "tests/server/test_endings.py::test_a_stream_that_is_closed_at_any_event",
    ],
    "14: tests fail where SIGINT is ignored": [
        "tests/unit/test_ignored_signals.py::test_a_program_hears_an_interrupt_only_if_it_is_made_to",
        "tests/unit/test_ignored_signals.py::test_whoever_interrupts_a_program_makes_it_hear",
        "tests/robustness/faults/test_overload.py::test_ten_times_too_many_requests",
    ],
    "15: journalctl -p cannot work": [
        "tests/server/test_main.py::test_under_systemd_each_line_has_the_priority_of_its_level",
        "tests/server/test_main.py::test_the_log_as_json",
        "tests/unit/test_logs.py::test_for_the_journal_each_line_begins_with_its_priority",
        "tests/unit/test_logs.py::test_the_journal_is_known_by_its_device_and_inode",
        "tests/unit/docs/test_deploy.py::test_the_journal_reads_the_priorities_of_lines",
    ],
    "16: the README does not begin at the clone, and names neither CONTRIBUTING nor other ways": [
        "tests/packaging/test_readmes.py::test_every_command_works_from_the_top",
        "tests/unit/docs/test_readme.py::test_it_is_short_and_begins_with_an_answer",
        "tests/unit/docs/test_readme.py::test_the_map_names_every_page_for_users",
        "tests/unit/docs/test_readme.py::test_every_way_to_it_is_named",
    ],
}


@pytest.mark.parametrize("stumble", STUMBLES)
def test_each_has_tests_that_exist(stumble: str) -> None:
    assert STUMBLES[stumble]
    for test in STUMBLES[stumble]:
        path, _, name = test.partition("::")
        source = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^def {name}\(", source, re.MULTILINE), test
