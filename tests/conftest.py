"""Markers. `slow`: about a second and a half or more, all parameters of a test together, unless they are the
hundreds of texts of `test_reader`. `real`: reads the photographs and tables beside the checkout, or needs a browser
or vLLM."""

import pytest

SLOW = {
    "test_chapters": "the_core_loads_nothing_heavy",
    "test_claimed": "a_claim_changes_no_country",
    "test_distill": "a_full_disk_is_one_clear_line_and_no_torn_answer"
    " a_model_that_is_not_served_is_named_before_anything_is_asked"
    " a_run_that_ends_early_says_what_is_missing_and_why"
    " a_store_that_is_copied_without_its_log_is_named"
    " a_teacher_that_is_down_does_not_keep_the_others_from_finishing"
    " ctrl_c_does_not_wait_for_the_pause_of_a_server"
    " ctrl_c_ends_the_run_soon_and_what_came_is_whole"
    " ctrl_c_keeps_the_answers_that_are_under_way"
    " giving_up_keeps_the_answers_that_are_under_way"
    " json_says_what_was_done_and_why_a_run_ended_early"
    " kill_9_in_the_middle_loses_and_doubles_nothing passing_trouble_is_tried_again"
    " the_advice_after_a_refusal_names_its_cause"
    " the_command_asks_a_model_in_this_process the_command_asks_in_shards_and_once"
    " the_command_takes_a_folder_of_pictures_and_lists_what_it_left_out"
    " two_processes_at_once_pay_for_no_photo_twice"
    " two_workers_of_a_ray_cluster_answer_every_photo wrong_commands_are_one_line",
    "test_doors": "no_bytes_cost_more_than_their_length no_text_costs_more_than_its_length"
    " the_demo_reads_uploaded_files_only",
    "test_endpoints": "a_geocoder_may_be_as_odd_as_any_server"
    " a_name_that_is_not_found_in_time_outlasts_no_deadline"
    " passing_trouble_is_asked_again_and_lasting_trouble_is_named",
    "test_evaluate": "interval_over_seeds_and_pictures_covers"
    " recorded_oracles_are_what_the_gazetteer_gives"
    " stretched_seeds_hold_the_truth_more_often",
    "test_evaluate_command": "a_model_of_the_hub_is_known_by_its_commit"
    " answers_of_other_weights_or_another_length_are_other_answers"
    " only_a_refusal_of_the_model_itself_is_an_answer"
    " two_processes_give_the_answers_of_one",
    "test_experiment": "a_model_that_is_asked_for_twice_is_trained_once"
    " a_part_of_a_benchmark_is_drawn_once_and_kept"
    " how_a_training_is_watched_trains_nothing_anew"
    " photographs_of_one_name_in_two_folders_are_not_mixed_up"
    " trainings_end_with_the_run_that_wanted_them two_runs_give_the_same_bytes",
    "test_figures": "importing_and_drawing_leave_the_settings_of_matplotlib_alone"
    " map_needs_no_network_and_counts_all_pictures two_processes_write_the_same_bytes",
    "test_grounding": "long_texts_cost_linear_time",
    "test_install": "a_command_names_the_extra_that_it_needs core_scores_a_file"
    " doctor_of_an_installed_package_without_notebooks_ends_well"
    " every_module_of_the_core_is_imported_without_extras",
    "test_interrupts": "all_processes_end",
    "test_judge": "an_endpoint_that_cannot_tell_gives_no_reward_then_stops",
    "test_locate": "maps_hold_at_the_dateline_at_the_poles_and_over_the_whole_world"
    " nothing_that_a_model_or_a_file_name_says_is_html"
    " the_radius_holds_the_largest_share_that_is_at_most_nine_tenths",
    "test_photos": "a_group_of_rows_is_not_much_larger_than_its_file"
    " a_repetitive_table_of_many_rows_is_read"
    " a_small_table_that_would_fill_the_memory_is_refused"
    " parquet_files_with_hundreds_of_pictures_are_read_as_before"
    " small_parquet_files_are_refused_before_they_fill_the_memory"
    " small_parquet_files_with_pictures_are_refused_before_they_fill_the_memory",
    "test_places": "groups_of_islands_reach_their_islands_and_are_one_place_under_two_names"
    " the_table_of_places_is_what_its_script_makes"
    " the_table_of_regions_is_what_its_script_makes",
    "test_postcards": "cues_are_what_the_mask_shows",
    "test_prefix": "a_model_that_cannot_share_says_so_once_and_goes_on"
    " a_run_ends_with_the_same_weights a_trainer_may_compile_its_static_cache"
    " groups_that_stay_without_spread_are_left_in_the_end"
    " groups_without_spread_can_be_skipped grpo_samples_with_vllm"
    " half_precision_hides_no_wrong_numbers"
    " log_probabilities_and_gradients_are_those_of_trl options_change_no_number"
    " other_models_are_shared_too samples_of_a_blind_model_are_refused"
    " static_caches_are_compiled_once",
    "test_processes": "a_small_learning_rate_moves_the_weights_in_every_parallel_mode"
    " a_training_that_cannot_run_is_one_line"
    " globe_train_gives_the_same_numbers_with_two_processes"
    " globe_train_survives_a_kill grpo_asks_the_judge_in_two_processes"
    " grpo_with_a_judge_gives_the_losses_of_one"
    " two_machines_give_the_numbers_of_one_process"
    " two_processes_give_the_losses_of_one"
    " two_processes_train_save_once_and_survive_a_kill",
    "test_reader": "nothing_raises",
    "test_readiness": "a_sentence_encoder_in_a_package_needs_no_hub"
    " what_keeps_a_profile_from_running_names_its_fix",
    "test_readme": "the_examples_run_and_give_what_is_shown what_pip_installs_works_elsewhere",
    "test_repository": "wheel_carries_the_committed_data_and_nothing_produced",
    "test_reproduce": "a_checkpoint_is_evaluated_on_a_benchmark a_kernel_that_dies_is_said_to_have_died"
    " a_run_that_was_stopped_goes_on_where_it_was"
    " a_run_with_changed_settings_leaves_the_committed_figures_and_report_alone"
    " a_second_run_of_the_same_profile_is_refused"
    " doctor_says_what_is_there_and_how_to_get_what_is_not"
    " exit_codes_and_one_line_errors fresh_forgets_what_was_made"
    " help_comes_at_once_and_names_every_command"
    " only_replaces_its_own_rows_of_the_report"
    " publish_keeps_outputs_without_the_injected_cell"
    " score_reads_two_files_and_speaks_json the_ground_floor_does_not_import_torch",
    "test_resume": "a_finished_training_that_is_killed_before_its_end_takes_no_step_again"
    " a_run_killed_after_its_last_step_takes_no_further_one"
    " an_interrupted_training_does_not_resume_with_other_settings"
    " an_interrupted_training_resumes_with_its_own_model_and_data_only"
    " sft_and_the_judge_take_fewer_rows_than_a_step_has"
    " the_newest_good_checkpoint_is_taken"
    " the_same_training_is_done_once_and_another_one_is_refused"
    " what_cannot_be_trained_on_is_named"
    " whole_states_of_another_training_block_no_restart"
    " without_any_good_checkpoint_training_begins_anew_and_says_so",
    "test_rewards": "the_command_line_of_trl_takes_every_reward_by_its_dotted_path",
    "test_soak": "a_sample_of_the_soak_loses_doubles_and_mistakes_nothing the_soak_counts_what_bad_work_does",
    "test_stage_code": "a_byte_of_a_committed_table_makes_exactly_the_stages_again_that_read_it"
    " a_changed_constant_makes_exactly_the_stages_again_that_run_it"
    " a_default_makes_only_its_own_models_again"
    " a_stage_counts_no_module_that_it_cannot_call"
    " a_stage_depends_on_the_prompts_that_it_reads_and_on_no_other"
    " a_word_a_colour_or_a_help_text_makes_nothing_again"
    " every_function_that_runs_in_a_stage_is_in_its_hash"
    " how_a_place_was_found_is_told_apart_by_its_code"
    " no_table_is_opened_that_no_hash_counts"
    " the_text_of_an_error_counts_only_where_it_is_written_down"
    " the_words_of_an_error_stand_in_its_raise"
    " words_for_people_are_reasons_and_not_part_of_a_hash",
    "test_stages": "kill_9_loses_at_most_the_unit_in_hand",
    "test_standins": "a_checkpoint_in_the_layout_of_the_hub_is_loaded_trained_and_saved_whole",
    "test_train": "a_diverging_run_stops_and_keeps_its_checkpoint"
    " a_resumed_run_is_the_uninterrupted_one"
    " a_small_learning_rate_moves_the_weights_of_a_bfloat16_checkpoint"
    " a_step_in_passes_is_the_same_step grpo_puts_the_judge_on_its_reference"
    " grpo_survives_a_kill internvl_trains_too language_moves_and_vision_stays"
    " lora_gives_a_whole_model",
    "test_train_command": "a_folder_of_ones_own_run_is_used_again a_profile_trains_into_the_folder_of_out"
    " no_card_is_written_that_is_wrong"
    " other_rows_and_another_judge_than_those_of_a_profile",
    "test_validate": "real_photographs_go_the_whole_road"
    " words_that_no_list_knows_stand_for_the_class_that_they_mean",
    "test_vlm": "answers_survive_a_kill without_torchvision_a_student_opens_by_load_processor_alone",
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
