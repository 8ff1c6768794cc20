"""Pens: roles that nobody can become, which own the functions that alone write what must stay together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prewatt.walls.rights import BY_HAND
from prewatt.walls.roles import NARROW


@dataclass(frozen=True, slots=True)
class Pen:
    """A role that nobody can become: the functions that it owns, and all it may do in them.

    ``holders`` says who may execute each function; a function of a trigger has none. ``counts_by`` are
    the sequences that it takes numbers from.
    """

    role: str
    holders: Mapping[str, tuple[str, ...]]
    rights: Mapping[str, str]
    counts_by: tuple[str, ...] = ()


_SELLERS = ("app_operator", "app_admin", "clerk")
_DECIDERS = (*_SELLERS, "head_end")
PENS = (
    Pen(
        "ledger_pen",
        {
            "append_transfers": _SELLERS,
            "append_sales": _SELLERS,
            "close_books": ("app_admin", "clerk"),
            "pay_refund_out": ("app_operator", "app_admin"),
            "money_has_its_way": (),
            "lent_is_owed": (),
            "paid_back_was_there": (),
            "follows_from_a_let": (),
            "money_is_agreed": (),
            "taking_back_is_agreed": (),
            "debt_is_settled": (),
            "series_is_used": (),
        },
        {
            "account_state": "SELECT, UPDATE (posted, transfer_seq, purchase_no, watch_below, "
            "updated_at)",
            "transfer": "INSERT, SELECT (account_id, event_id, seq, kind, counter_account, amount, code, "
            "corrects_event_id, corrects_seq)",
            "payment": "INSERT, SELECT (property_id, account_id, event_id, amount_micro, way, taken_by)",
            "debt": "SELECT (property_id, account_id, code, id, closed_at)",
            "debt_policy": "SELECT (property_id, let_shortfall)",
            "temporary_let": "SELECT (property_id, account_id, closed_at)",
            "property": "SELECT (id, currency, time_zone, legal_entity_id, language, minor_digits)",
            "ledger_period": "SELECT, INSERT, UPDATE (open_from)",
            "document": "INSERT, SELECT (legal_entity_id, series, number, property_id)",
            "document_series": "INSERT, SELECT, UPDATE (last_number)",
            "account": "SELECT (id, property_id, customer_id, closed_at)",
            "customer": "SELECT (id, property_id, language)",
            "idempotency": "INSERT, SELECT (caller, key, property_id)",
            "audit_event": "INSERT, SELECT (property_id)",
            "message": "INSERT, SELECT (id, property_id, account_id, code, created_at, finished_at)",
            "supply_state": "SELECT, UPDATE (fired_mask, would_mask, level, level_fired_at)",
            "supply_policy": "SELECT (property_id, version)",
            "tariff_epoch": "SELECT (property_id, epoch)",
            "refund": "SELECT, UPDATE (state, paid_way, paid_reference, paid_by, paid_at)",
        },
        counts_by=("event_id_seq",),
    ),
    Pen(
        "supply_pen",
        {
            "lock_brake": _DECIDERS,
            "put_brake_on": _DECIDERS,
            "release_brake": ("app_admin",),
            "pull_brake": ("app_admin",),
            "change_supply_rules": ("app_admin",),
            "protect_supply": ("app_admin",),
            "order_by_hand": ("app_admin",),
            "raise_watch": ("app_operator",),
            "change_tamper_policy": ("app_admin",),
            "withhold_supply": ("clerk",),
            "release_supply": ("app_admin", "clerk"),
            "protected_is_not_withheld": (),
        },
        {
            "supply_policy": "SELECT, INSERT, UPDATE (version, body, changed_at, brake_since, "
            "brake_release_asked_by, brake_release_asked_at, brake_released_at)",
            "supply_state": "SELECT, UPDATE (protection, by_hand, by_hand_until, reconsider_at, "
            "withheld_since, emergency_micro, emergency_held_micro)",
            "account_state": "SELECT, UPDATE (watch_below)",
            "account": "SELECT (id, property_id, kind, closed_at)",
            "tamper_case": "SELECT",
            "tamper_policy": "SELECT, INSERT, UPDATE (version, body, changed_at)",
        },
    ),
    Pen(
        "usage_pen",
        {"charge_by_hand": ("app_operator",)},
        {
            "account_state": f"SELECT, UPDATE ({', '.join(BY_HAND)})",
            "interval": "SELECT, INSERT",
            "meter_state": "SELECT, UPDATE (last_at, last_value_wh, received_at)",
            "tariff_version": "SELECT (id, property_id, tariff_id, content)",
            "tariff_assignment": "SELECT (property_id, account_id, tariff_id)",
        },
    ),
    Pen(
        "approval_pen",
        {
            "is_administrator": ("sign_in_pen",),
            "administrators_beside": ("sign_in_pen",),
            "decides_at": ("sign_in_pen",),
            "may_propose": (),
            "use_step_up": ("sign_in_pen",),
            "approval_refusal": (),
            "take_agreed": (),
            "must_be_agreed": ("supply_pen", "ledger_pen", "fleet_pen"),
            "agreed_is_done": (),
            "asked_by": ("ledger_pen",),
            "rehearse": ("app_admin", "app_operator"),
            "approvers_needed": ("app_admin", "app_operator"),
            "make_proposal": ("app_admin", "app_operator"),
            "approve_proposal": ("app_admin",),
            "end_proposal": ("app_admin", "app_operator"),
            "break_glass": ("app_admin",),
            "review_emergency": ("app_admin", "app_auditor"),
            "change_ladder": ("app_admin",),
            "make_version": ("app_admin",),
            "make_api_key": ("app_admin",),
            "make_duty": ("app_admin",),
            "end_agreed_duties": ("app_admin",),
            "agreed_everywhere": (),
            "make_group": ("app_admin",),
            "end_api_key": ("app_admin",),
            "plan_at": (),
            "put_on_plan": ("app_admin",),
            "terms_at": (),
            "write_terms": ("app_admin",),
            "change_debt_policy": ("app_admin",),
            "revise_reading": ("app_admin",),
            "was_withdrawn": ("app_operator", "app_admin", "clerk"),
            "give_mandate": ("app_admin",),
            "use_mandate": ("app_admin",),
        },
        {
            "tariff_assignment": "SELECT, INSERT",
            "account_terms": "SELECT, INSERT",
            "debt_policy": "SELECT, INSERT, UPDATE",
            "register_reading": "SELECT, INSERT",
            "mandate": "SELECT, INSERT, UPDATE (uses_left, used_at)",
            "account": "SELECT (id, property_id, closed_at)",
            "account_state": "SELECT (account_id, property_id, last_interval_at)",
            "proposal": "SELECT, INSERT, UPDATE (state, needed, ended_by, ended_at, answer, agreed_in, "
            "done_at, reviewed_by, reviewed_at, review, review_note)",
            "api_key": "SELECT, INSERT, UPDATE (ended_by, ended_at)",
            "proposal_approval": "SELECT, INSERT",
            "amount_limit": "SELECT, INSERT, DELETE",
            "step_up": "SELECT, UPDATE (used_at)",
            "duty_grant": "SELECT",
            "app_user": "SELECT (id, is_active)",
            "tariff": "SELECT, INSERT",
            "tariff_version": "SELECT, INSERT",
            "tariff_draft": "SELECT, UPDATE (became)",
            "tariff_epoch": "SELECT, INSERT, UPDATE (epoch)",
        },
    ),
    Pen(
        "door_pen",
        {"use_api_key": ("web",)},
        {
            "api_key": "SELECT (id, property_id, public_id, secret_sha256, name, duty, permissions, "
            "ended_at, expires_at, last_used_at), UPDATE (last_used_at)",
        },
    ),
    Pen(
        "grant_pen",
        {
            "enter_line": (),
            "duties_of": ("web", "approval_pen", "audit_pen", "sign_in_pen"),
            "places_of_group": ("app_admin", "approval_pen", "sign_in_pen"),
            "holders_of_group": ("app_admin", "approval_pen"),
            "write_group": ("approval_pen",),
            "moved_out": (),
            "grant_duty": ("approval_pen", "sign_in_pen"),
            "end_duty": ("approval_pen", "sign_in_pen"),
        },
        {
            "duty_grant": "SELECT, INSERT, UPDATE (ended_at, ended_by)",
            "person_line": "SELECT, INSERT, UPDATE (line, organisation_id)",
            "app_user": "SELECT (id, is_active)",
            "organisation": "SELECT (id)",
            "property": "SELECT (id, organisation_id)",
            "property_group": "SELECT, INSERT (organisation_id, name), UPDATE (name)",
            "property_group_member": "SELECT, INSERT, DELETE",
            "account": "SELECT (id, property_id, customer_id, closed_at)",
            "customer": "SELECT (id, property_id)",
        },
    ),
    Pen(
        "audit_pen",
        {
            "note_change": (),
            "forget_explained": (),
            "is_auditor": (),
            "save_watch": ("app_auditor",),
            "answer_finding": ("app_auditor",),
            "auditors_of": ("clerk",),
            "note_of_narrow": NARROW,
            "note_sign_ins": ("web",),
            "note_command": (),
            "note_drop": (),
        },
        {
            "unexplained_change": "SELECT, INSERT, DELETE",
            "audit_watch": "SELECT, INSERT, UPDATE (name, parameters, is_on, made_by, changed_at)",
            "watch_finding": "SELECT, UPDATE (seen_by, seen_at, note)",
            "audit_event": "INSERT, SELECT (transaction, code, property_id, actor, subject, happened_at)",
            "property": "SELECT (id)",
            "duty_grant": "SELECT (user_id, duty, ended_at)",
        },
        counts_by=(
            "unexplained_change_id_seq",
            "audit_watch_id_seq",
            "audit_event_id_seq",
        ),
    ),
    Pen(
        "sign_in_pen",
        {
            "has_factor": ("web",),
            "needs_factor": ("web",),
            "own_deed": (),
            "ask_passkey": ("web",),
            "take_challenge": (),
            "keep_first_codes": (),
            "add_passkey": ("web",),
            "use_passkey": ("web",),
            "remove_passkey": ("web",),
            "take_up_app": ("web",),
            "drop_app": ("web",),
            "make_recovery_codes": ("web",),
            "use_recovery_code": ("web",),
            "recovery_codes_left": ("web",),
            "ask_new_factor": ("web",),
            "keep_factor": ("web",),
            "begin_anew": ("web",),
            "change_password": ("web",),
            "known_by_directory": ("web",),
            "person_refusal": (),
            "invite_person": ("app_admin",),
            "accept_invitation": ("web",),
            "suspend_person": ("app_admin",),
            "resume_person": ("app_admin",),
            "end_duties": ("app_admin",),
            "may_link": (),
            "link_tenant": ("app_admin", "app_operator"),
            "unlink_tenant": ("app_admin", "app_operator"),
        },
        {
            "directory_person": "SELECT, INSERT",
            "account": "SELECT (id, property_id, customer_id, closed_at)",
            "app_user": "SELECT (id, email, name, is_active), UPDATE (password, is_active), "
            "INSERT (password, email, name, language, is_active, created_at)",
            "duty_grant": "SELECT",
            "property": "SELECT (id, name)",
            "invitation": "SELECT, INSERT, UPDATE (accepted_at)",
            "suspension": "SELECT, INSERT, UPDATE (ended_by, ended_at)",
            "sign_in": "SELECT (user_id, ended_at), UPDATE (ended_at, ended_why)",
            "notice": "INSERT",
            "second_factor": "SELECT, INSERT, DELETE",
            "passkey": "SELECT, INSERT, UPDATE (removed_at, removed_why, sign_count, is_synced, used_at)",
            "passkey_challenge": "SELECT, INSERT, UPDATE (used_at), DELETE",
            "recovery_code": "SELECT, INSERT, UPDATE (used_at, replaced_at)",
            "new_factor": "SELECT, INSERT, UPDATE (ended_at)",
            "step_up": "INSERT, SELECT (id)",
        },
    ),
    Pen(
        "device_pen",
        {
            "issuer_covers": (),
            "keep_device_issuer": (),
            "make_device_code": ("app_admin", "app_installer"),
            "enrol_device": ("app_admin", "app_installer"),
            "renew_device": ("head_end",),
            "revoke_device": ("app_admin",),
        },
        {
            "device_issuer": "SELECT, INSERT",
            "device_code": "SELECT, INSERT, UPDATE (used_at)",
            "device_certificate": "SELECT, INSERT, "
            "UPDATE (replaced_at, revoked_at, revoked_by, revoked_why)",
            "meter": "SELECT (serial, property_id)",
            "concentrator": "SELECT (serial, property_id)",
        },
    ),
    Pen(
        "fleet_pen",
        {
            "meters_digest": ("app_admin",),
            "begin_bulk": ("app_admin",),
            "ask_meter": ("app_admin",),
            "forget_fleet_days": ("clerk",),
        },
        {
            "fleet_bulk": "SELECT (id, property_id), INSERT",
            "meter_request": "SELECT (id, property_id, meter_id, state, bulk_id, gap_id), INSERT",
            "fleet_day": "SELECT (property_id, day, meter_id), DELETE",
            "property": "SELECT (id)",
        },
        counts_by=("fleet_bulk_id_seq", "meter_request_id_seq"),
    ),
    Pen(
        "frame_pen",
        {
            "keep_rejected": ("head_end",),
            "place_of_serial": (),
            "serial_is_taken": ("app_admin", "app_installer", "clerk"),
        },
        {
            "rejected_frame": "SELECT, INSERT, UPDATE, DELETE",
            "meter": "SELECT (serial, property_id)",
            "concentrator": "SELECT (serial, property_id)",
        },
    ),
)
