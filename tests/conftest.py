"""Markers. `slow`: two seconds of processor time or more, all parameters of a test together, or eight seconds of
waiting. `real`: reads the photographs and tables beside the checkout, or needs a browser or vLLM."""

import pytest

SLOW = {
    "test_chapters": "the_core_loads_nothing_heavy",
    "test_distill": "ctrl_c_ends_the_run_soon_and_what_came_is_whole ctrl_c_keeps_the_answers_that_are_under_way"
    " kill_9_in_the_middle_loses_and_doubles_nothing passing_trouble_is_tried_again"
    " the_command_asks_a_model_in_this_process the_command_asks_in_shards_and_once"
    " the_command_takes_a_folder_of_pictures_and_lists_what_it_left_out"
    " two_workers_of_a_ray_cluster_answer_every_photo wrong_commands_are_one_line",
    "test_evaluate": "recorded_oracles_are_what_the_gazetteer_gives stretched_seeds_hold_the_truth_more_often",
    "test_evaluate_command": "a_model_of_the_hub_is_known_by_its_commit"
    " answers_of_other_weights_or_another_length_are_other_answers two_processes_give_the_answers_of_one"
    " only_a_refusal_of_the_model_itself_is_an_answer",
    "test_experiment": "photographs_of_one_name_in_two_folders_are_not_mixed_up two_runs_give_the_same_bytes",
    "test_figures": "importing_and_drawing_leave_the_settings_of_matplotlib_alone"
    " map_needs_no_network_and_counts_all_pictures two_processes_write_the_same_bytes",
    "test_install": "a_command_names_the_extra_that_it_needs",
    "test_locate": "maps_hold_at_the_dateline_at_the_poles_and_over_the_whole_world"
    " nothing_that_a_model_or_a_file_name_says_is_html"
    " the_radius_holds_the_largest_share_that_is_at_most_nine_tenths",
    "test_prefix": "a_model_that_cannot_share_says_so_once_and_goes_on a_run_ends_with_the_same_weights"
    " a_trainer_may_compile_its_static_cache grpo_samples_with_vllm"
    " log_probabilities_and_gradients_are_those_of_trl other_models_are_shared_too"
    " samples_of_a_blind_model_are_refused static_caches_are_compiled_once",
    "test_processes": "a_training_that_cannot_run_is_one_line a_small_learning_rate_moves_the_weights_in_every_parallel_mode"
    "  globe_train_gives_the_same_numbers_with_two_processes"
    " globe_train_survives_a_kill grpo_asks_the_judge_in_two_processes grpo_with_a_judge_gives_the_losses_of_one"
    " two_machines_give_the_numbers_of_one_process"
    " two_processes_give_the_losses_of_one two_processes_train_save_once_and_survive_a_kill",
    "test_readme": "what_pip_installs_works_elsewhere",
    "test_reproduce": "a_run_that_was_stopped_goes_on_where_it_was"
    " doctor_says_what_is_there_and_how_to_get_what_is_not exit_codes_and_one_line_errors"
    " help_comes_at_once_and_names_every_command score_reads_two_files_and_speaks_json"
    " the_ground_floor_does_not_import_torch",
    "test_resume": "a_run_killed_after_its_last_step_takes_no_further_one the_newest_good_checkpoint_is_taken"
    " sft_and_the_judge_take_fewer_rows_than_a_step_has what_cannot_be_trained_on_is_named"
    " without_any_good_checkpoint_training_begins_anew_and_says_so",
    "test_rewards": "the_command_line_of_trl_takes_every_reward_by_its_dotted_path",
    "test_soak": "a_sample_of_the_soak_loses_doubles_and_mistakes_nothing the_soak_counts_what_bad_work_does",
    "test_stage_code": "a_changed_constant_makes_exactly_the_stages_again_that_run_it"
    " every_function_that_runs_in_a_stage_is_in_its_hash no_table_is_opened_that_no_hash_counts"
    " a_stage_depends_on_the_prompts_that_it_reads_and_on_no_other a_stage_counts_no_module_that_it_cannot_call"
    " a_byte_of_a_committed_table_makes_exactly_the_stages_again_that_read_it"
    " a_word_a_colour_or_a_help_text_makes_nothing_again",
    "test_standins": "a_checkpoint_in_the_layout_of_the_hub_is_loaded_trained_and_saved_whole",
    "test_train": "a_resumed_run_is_the_uninterrupted_one a_step_in_passes_is_the_same_step"
    " grpo_survives_a_kill internvl_trains_too language_moves_and_vision_stays lora_gives_a_whole_model",
    "test_train_command": "a_folder_of_ones_own_run_is_used_again a_profile_trains_into_the_folder_of_out"
    " no_card_is_written_that_is_wrong other_rows_and_another_judge_than_those_of_a_profile",
    "test_validate": "real_photographs_go_the_whole_road",
    "test_vlm": "answers_survive_a_kill",
}
FIRST = "test_stage_code", "test_processes"  # the longest: nothing waits for them at the end
OUTSIDE = {"REAL", "real"}  # names that tests use to reach the files beside the checkout


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: seconds of work; `make test-quick` leaves it out")
    config.addinivalue_line("markers", "real: needs real data beside the checkout, a browser or vLLM")


def pytest_collection_modifyitems(items):
    for item in items:
        file, name = item.path.stem, item.originalname.removeprefix("test_")
        if name in SLOW.get(file, "").split():
            item.add_marker(pytest.mark.slow)
        if file in ("test_browser", "test_vllm") or OUTSIDE & set(item.function.__code__.co_names):
            item.add_marker(pytest.mark.real)
    items.sort(key=lambda item: item.path.stem not in FIRST)
