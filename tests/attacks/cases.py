"""Every attack that the programme of proof numbers, with the tests that hold it, or why there is none.

The numbers are kept for ever; gaps belong to attacks on what chatkit does not have. `test_cases` sees that each named
test is there.
"""

from __future__ import annotations

from typing import Final

_HTTP, _EVENTS = "tests/blackbox/test_bad_http.py", "tests/blackbox/test_bad_events.py"
_SESSION, _TOKENS = "tests/blackbox/test_session.py", "tests/blackbox/test_tokens.py"
_ACCESS, _CODEC, _EDGES = (
    "tests/server/test_access.py",
    "tests/wire/test_codec.py",
    "tests/gateway/test_edges.py",
)
_DEADLINES, _ADMISSION = "tests/gateway/test_deadlines.py", "tests/server/test_admission.py"
_HERE, _MATRIX = "tests/attacks/test_injection.py", "tests/attacks/test_matrix.py"
_JWKS, _WEBPUSH, _AUDIT = (
    "tests/server/test_jwks.py",
    "tests/push/test_webpush.py",
    "src/chatkit/testing/contracts/storage_audit.py",
)


def _in(file: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{file}::{name}" for name in names)


TESTS: Final[dict[int, tuple[str, ...]]] = {
    # A. WebSocket and HTTP framing
    2: _in(_EVENTS, "test_breaches_of_rfc_6455_close_1002"),
    4: _in(
        _EVENTS,
        "test_frame_above_a_million_bytes_is_refused",
        "test_fragments_that_together_are_above_the_limit_are_refused",
    ),
    6: _in(_EVENTS, "test_compression_is_not_negotiated"),
    7: _in(_DEADLINES, "test_a_ping_flood_that_is_not_read_is_cut_off")
    + _in(_EDGES, "test_what_a_stranger_floods_with_is_closed_and_the_reason_arrives"),
    8: _in(_SESSION, "test_text_that_is_no_utf8_closes_1007"),
    9: _in(
        _DEADLINES,
        "test_a_request_that_never_comes_ends_the_connection",
        "test_a_body_that_never_comes_is_refused",
        "test_answers_that_are_not_read_end_the_connection",
    )
    + _in("tests/server/test_session.py", "test_no_hello_in_time_closes_4200")
    + _in("tests/gateway/test_freed.py", "test_nothing_of_an_ended_connection_waits_for_the_collector"),
    10: _in(_EDGES, "test_bad_heads_get_a_problem_document", "test_a_body_in_too_many_chunks_is_refused")
    + _in(_HTTP, "test_raw_garbage_harms_nobody"),
    11: _in(_HTTP, "test_body_of_another_content_type"),
    12: _in(
        _ADMISSION,
        "test_one_address_has_so_many_connections",
        "test_of_those_that_do_not_log_in_the_oldest_makes_room",
    ),
    13: _in(
        "tests/proof/test_fuzz.py",
        "test_inputs_crash_nothing_and_leave_nothing",
        "test_an_exception_that_nobody_caught_is_found",
        "test_a_session_that_is_kept_is_found",
    ),
    # B. JSON and values
    14: _in(
        _EVENTS,
        "test_a_frame_of_a_hundred_thousand_openings",
        "test_messagepack_of_a_hundred_thousand_openings",
        "test_payload_nested_far_too_deep_as_a_frame_of_its_own",
    )
    + _in(_HTTP, "test_send_too_deep_or_too_large"),
    15: _in(_EVENTS, "test_huge_integers_in_json", "test_huge_integers_in_a_payload")
    + _in(_HTTP, "test_huge_integers_in_a_body"),
    16: _in(
        _EVENTS,
        "test_numbers_that_are_none_in_json",
        "test_floats_that_are_not_finite_in_messagepack",
    ),
    17: _in(_EVENTS, "test_of_a_repeated_key_the_last_wins")
    + _in(_CODEC, "test_only_the_last_of_a_repeated_key_is_stored"),
    19: _in(
        _CODEC,
        "test_json_value_outside_i_json_is_refused",
        "test_msgpack_value_outside_i_json_is_refused",
    ),
    20: _in(_CODEC, "test_wrong_types_for_every_field")
    + _in(_HTTP, "test_send_with_a_wrong_value")
    + _in("tests/storage/test_sqlite.py", "test_wrong_types_never_get_in"),
    21: _in(
        _EVENTS, "test_unknown_fields_are_ignored", "test_sender_and_seq_of_the_client_count_for_nothing"
    ),
    23: _in(_CODEC, "test_bounds_of_texts", "test_ids", "test_client_info_is_bounded")
    + _in("tests/wire/test_payload.py", "test_media_at_their_bounds"),
    24: _in(_HTTP, "test_query_out_of_range_is_refused_or_clamped", "test_query_of_zero")
    + _in(_CODEC, "test_bounds_of_seqs"),
    25: _in(_HTTP, "test_limit_above_200_is_200")
    + _in("tests/blackbox/test_sync.py", "test_sync_limit_above_200_gives_200"),
    26: _in(_EVENTS, "test_sender_and_seq_of_the_client_count_for_nothing")
    + _in(_HERE, "test_26_no_time_of_a_client_is_taken"),
    # C. Injection and SSRF
    27: _in(_HERE, "test_27_words_of_sql_are_words", "test_27_no_sql_is_made_of_what_people_wrote"),
    28: _in(_CODEC, "test_wrong_types_for_every_field") + _in(_HERE, "test_28_objects_where_a_text_is_due"),
    30: _in(_HERE, "test_30_nothing_of_strangers_ends_a_line_of_the_log"),
    31: _in(_CODEC, "test_ids")
    + _in(_HTTP, "test_bad_ids_in_the_path")
    + _in(_EDGES, "test_an_encoded_slash_separates_nothing")
    + _in("tests/gateway/test_webpage.py", "test_nothing_but_the_files_is_served"),
    32: _in(
        "tests/push/test_parts.py",
        "test_a_body_is_cut_by_whole_characters_and_stays_json",
        "test_data_is_never_cut",
    ),
    33: _in(
        _WEBPUSH,
        "test_no_endpoint_leads_into_the_hosts_own_network",
        "test_the_address_that_was_checked_is_connected_to",
        "test_one_private_address_among_public_ones_is_one_too_many",
        "test_an_address_of_the_hosts_own_network_is_not_registered",
    )
    + _in(
        _JWKS,
        "test_what_is_no_set_of_keys_is_a_failure",
        "test_attack_36_a_token_cannot_choose_its_key_or_algorithm",
    ),
    34: _in(_DEADLINES, "test_a_slash_too_many_is_no_redirect_to_where_the_caller_says")
    + _in(_HERE, "test_34_no_answer_repeats_the_host"),
    35: _in(_HERE, "test_35_nothing_is_unpickled")
    + _in("tests/server/cluster/test_messages.py", "test_what_is_no_frame_is_unreadable")
    + _in("tests/bus/remote.py", "test_rubbish_of_strangers_is_handed_on_and_harms_nobody"),
    # D. Authentication
    36: _in(_JWKS, "test_attack_36_a_token_cannot_choose_its_key_or_algorithm")
    + _in(_TOKENS, "test_forged_token_is_refused_over_http", "test_forged_token_is_refused_in_hello")
    + _in(
        "tests/server/test_auth.py",
        "test_a_key_that_is_none_is_found_at_set_up",
        "test_a_public_key_fits_what_its_private_one_signed_and_nothing_else",
        "test_a_key_is_found_by_its_name_and_no_other_is_tried",
    ),
    37: _in(_JWKS, "test_times_issuer_and_audience_are_held")
    + _in(_TOKENS, "test_expired_token_is_refused_by_name")
    + _in("tests/server/test_login.py", "test_an_expired_token_says_so_after_the_leeway"),
    38: _in(_ACCESS, "test_a_banned_user_is_told_so_until_the_ban_is_lifted")
    + _in("tests/blackbox/test_revoking.py", "test_every_way_in_is_closed"),
    39: _in(
        _ACCESS,
        "test_the_sockets_end_before_the_call_returns",
        "test_the_sockets_of_the_other_node_end_within_a_second",
        "test_nothing_pushed_leaves_after_the_revocation_and_nothing_sent_is_stored",
    ),
    41: _in(_SESSION, "test_token_in_the_url_logs_nobody_in_and_is_not_logged")
    + _in(_EDGES, "test_a_token_in_the_url_is_refused_whatever_else_is_right", "test_queries_are_not_logged")
    + _in("tests/cli/test_logging.py", "test_logins_and_refusals_are_said_and_no_secrets"),
    42: _in(
        "tests/gateway/test_origins.py",
        "test_a_cookie_from_anywhere_else_is_refused",
        "test_cookies_need_a_list_without_everybody_on_it",
    ),
    43: _in(
        _SESSION,
        "test_anything_before_hello_closes_4203",
        "test_second_hello_closes_4203",
    ),
    44: _in(
        _SESSION,
        "test_resume_token_logs_in_once",
        "test_resume_token_on_a_foreign_device_is_refused_and_disturbs_nobody",
        "test_bad_resume_token_is_refused_and_disturbs_nobody",
    )
    + _in(_ACCESS, "test_resume_tokens_are_gone")
    + _in(_MATRIX, "test_nobody_learns_or_changes_anything"),
    46: _in("tests/cli/test_logging.py", "test_logins_and_refusals_are_said_and_no_secrets")
    + _in(
        "tests/cli/test_config.py", "test_no_secret_is_shown", "test_a_secret_on_the_command_line_is_refused"
    )
    + _in("tests/cli/test_doctor.py", "test_the_command_tells_and_ends_with_what_it_found"),
    47: _in(_ACCESS, "test_nobody_learns_from_a_ban_who_exists")
    + _in(_HERE, "test_47_a_token_of_nobody_is_answered_like_a_bad_one"),
    48: _in(
        _ADMISSION,
        "test_http_logins_that_fail_take_from_the_rate_of_their_address_and_the_host_is_not_asked",
        "test_one_address_is_taken_in_so_often_and_leaves_the_rest_to_the_others",
    ),
    # E. Authorisation and privacy
    49: _in(
        _MATRIX,
        "test_nobody_learns_or_changes_anything",
        "test_every_operation_and_event_has_a_row_and_no_row_is_left_over",
    )
    + _in("tests/attacks/test_holes.py", "test_a_hole_is_found")
    + _in(
        "tests/blackbox/test_strangers.py",
        "test_http_answers_a_hidden_thing_like_a_missing_one",
        "test_events_answer_a_hidden_thing_like_a_missing_one",
    )
    + _in("tests/gateway/test_admin_api.py", "test_for_others_these_paths_do_not_exist"),
    50: _in("tests/blackbox/test_recall.py", "test_recall_is_for_the_author_and_for_who_runs_the_group"),
    51: _in("tests/blackbox/test_receipts.py", "test_above_the_head_is_a_bad_request")
    + _in(_MATRIX, "test_nobody_learns_or_changes_anything"),
    52: _in(
        "tests/blackbox/test_conversations.py",
        "test_removed_member_hears_that_he_left_and_then_nothing",
        "test_rejoiner_sees_his_two_intervals_and_no_gap",
    )
    + _in("tests/server/delivery/test_worker.py", "test_who_was_removed_is_told_nothing")
    + _in(_MATRIX, "test_nobody_learns_or_changes_anything"),
    56: _in(
        "tests/blackbox/test_blocks.py",
        "test_who_is_blocked_reaches_the_blocker_by_no_request",
        "test_no_single_begins_with_who_blocked",
    ),
    58: _in(_HTTP, "test_answers_are_not_to_be_stored_by_caches"),
    62: _in(
        _AUDIT,
        "test_a_row_that_was_changed_or_taken_out_is_found",
        "test_a_chain_that_was_taken_out_is_found",
    )
    + _in("tests/storage/test_sqlite.py", "test_the_audit_cannot_be_rewritten"),
    # F. Abuse and resources
    63: _in(
        "tests/server/test_limits.py",
        "test_a_message_too_many_is_refused_with_a_wait_and_holds_back_the_later_ones",
        "test_one_user_fills_a_share_of_the_queue_and_the_others_have_the_rest",
    )
    + _in(
        "tests/gateway/test_limits.py",
        "test_nobody_is_put_into_more_conversations_than_the_limit_says_whoever_does_it",
    ),
    66: _in(_HERE, "test_66_no_pattern_takes_more_than_linear_time"),
    67: _in("tests/gateway/test_limits.py", "test_a_request_too_many_says_when_to_come_back")
    + _in("tests/client/test_retry.py", "test_it_waits_as_the_backoff_and_the_last_error_say"),
    68: _in("tests/storage/test_sqlite.py", "test_no_statement_scans_a_table"),
    69: _in("tests/cli/test_doctor.py", "test_what_nats_says_of_itself")
    + _in(
        "tests/bus/test_nats.py",
        "test_rights_that_are_enough",
        "test_tls_is_insisted_on_before_a_password_is_sent",
    ),
    70: _in(_HERE, "test_70_no_private_key_is_in_the_repository"),
}

NOT_HERE: Final[dict[int, str]] = {
    1: "Autobahn's suite runs on Python 2.7 or PyPy from its own image, neither of which is here; its kinds of frames "
    "are sent by the tests of 2, 4, 6, 7 and 8",
    61: "chatkit stores no attachments: a message names a URL, and the file is the host's",
}
"""Of 69 and 70 the audit of dependencies, the list of parts and the signature belong to a release, not to a test."""
