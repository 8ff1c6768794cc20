"""The database's own walls: roles, grants and row-level security, applied after every migration.

Each process signs in with a login of its own; what a login may touch is written here, table by
table, and a table that is not written here makes :func:`apply` fail. Nobody but the owner may ever
UPDATE or DELETE an append-only table. No role has a grant on a partition itself, which would
bypass the parent's policy.

Roles: ``web`` signs in and becomes the role of ``DUTIES`` that the person's duty names;
``head_end`` writes the data plane (BYPASSRLS, because PostgreSQL refuses COPY into a table with
row-level security); ``clerk`` posts, decides, notifies and closes what ends by itself; ``keeper`` makes partitions and archives months; ``witness``
reads the ledger. ``PENS`` sign in nowhere: each owns functions that alone write what must stay together
(transfers and posted money, the brake), and sees what the caller of the function sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from math import ceil
from typing import Final, Protocol

from psycopg import sql

LOGINS = ("web", "head_end", "clerk", "keeper", "witness")
#: Duties that see a property whole, and write by ``WRITES``.
STAFF = ("app_operator", "app_admin", "app_auditor")
#: Those that see of it what ``READS`` names.
NARROW = ("app_installer", "app_owner", "app_tenant")
DUTIES = (*STAFF, *NARROW)
BYPASS = frozenset({"head_end"})
#: So many connections the web's login has at most; PostgreSQL takes a hundred unless it is told otherwise.
WEB_CONNECTIONS: Final = 60


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


#: What a reading moves of an account.
_BY_HAND = (
    "accrued_energy",
    "accrued_tax",
    "accrued_fee",
    "accrued_subsidy",
    "carry_energy",
    "carry_tax",
    "carry_fee",
    "carry_subsidy",
    "step_window",
    "step_wh",
    "allowance_window",
    "allowance_wh",
    "interval_no",
    "last_interval_at",
    "updated_at",
)
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
            "account_state": f"SELECT, UPDATE ({', '.join(_BY_HAND)})",
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
            "give_mandate": ("app_admin",),
            "use_mandate": ("app_admin",),
        },
        {
            "tariff_assignment": "SELECT, INSERT",
            "account_terms": "SELECT, INSERT",
            "debt_policy": "SELECT, INSERT, UPDATE",
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

#: Append-only: INSERT and SELECT are the most that anybody gets.
APPEND_ONLY = (
    "transfer",
    "posting",
    "idempotency",
    "audit_event",
    "supply_decision",
    "register_reading",
    "interval",
    "document",
    "payment",
    "tariff_version",
    "tariff_assignment",
    "account_terms",
    "price_event",
    "price_series",
    "carried_steps",
    "resale_terms",
    "event_rebate",
    "event_look",
    "archived_partition",
    "archived_account",
    "books_proof",
    "unexplained_change",
    "proposal_approval",
    "meter_balance_check",
    "tamper_evidence",
    "meter_version",
    "finding_letter",
)
#: Business tables that change: estate, watermarks, states.
MUTABLE = (
    "organisation",
    "property_group",
    "property_group_member",
    "legal_entity",
    "property",
    "building",
    "unit",
    "metering_point",
    "meter",
    "installation",
    "concentrator",
    "concentrator_meter",
    "commissioning",
    "field_rules",
    "customer",
    "account",
    "tenancy",
    "meter_assignment",
    "holiday_list",
    "calendar_day",
    "account_state",
    "demand_day",
    "bound_period",
    "meter_state",
    "meter_link",
    "radio_link",
    "vee_case",
    "rejected_frame",
    "document_series",
    "ledger_period",
    "tariff",
    "tariff_epoch",
    "rerate_request",
    "tariff_draft",
    "tariff_trial",
    "proposal",
    "api_key",
    "mandate",
    "amount_limit",
    "debt",
    "debt_policy",
    "refund",
    "temporary_let",
    "supply_policy",
    "supply_state",
    "supply_order",
    "meter_key",
    "instruction_state",
    "instruction",
    "meter_wallet",
    "fleet_look",
    "fleet_day",
    "fleet_total",
    "meter_gap",
    "fleet_bulk",
    "meter_request",
    "notify_policy",
    "message",
    "message_attempt",
    "alert",
    "tamper_case",
    "tamper_policy",
    "clock_correction",
    "audit_watch",
    "watch_finding",
    "invitation",
    "suspension",
    "device_issuer",
    "device_code",
    "device_certificate",
)
#: Sign-in only: the web's login itself, before any duty is known.
SIGN_IN = (
    "app_user",
    "duty_grant",
    "person_line",
    "second_factor",
    "step_up",
    "passkey",
    "passkey_challenge",
    "directory_person",
    "recovery_code",
    "new_factor",
    "sign_in",
    "notice",
    "sign_in_throttle",
    "django_session",
    "django_content_type",
    "django_migrations",
)
UNUSED = ("auth_group", "auth_group_permissions", "auth_permission")

#: What each duty and process may write. Everything else it sees, it sees read-only. Nobody is listed
#: for ``transfer``: that is the pen's.
_DATA_PLANE = ("register_reading", "interval", "audit_event", "supply_decision")
#: Intervals of what an operator enters are written by ``charge_by_hand``.
_ENTERED = ("register_reading", "audit_event", "supply_decision")
_DECIDED = (
    "account_state",
    "vee_case",
    "supply_state",
    "supply_order",
    "supply_policy",
    "message",
    "alert",
    "rerate_request",
)
_DATA_STATE = ("meter_state", *_DECIDED)
_AT_METERS = ("meter_link", "radio_link", "concentrator")
_INSTRUCTING = ("instruction_state", "instruction", "meter_wallet")
#: What the head-end and the worker find out of meters.
_NOTING = ("tamper_case", "tamper_evidence", "meter_version")
_ASKING = ("meter_gap", "fleet_bulk", "meter_request")
_BY_DAYS = ("demand_day", "bound_period")
_SELLING = ("idempotency", "document", "document_series", "payment", "debt", "refund")
_MOVING = (
    "building",
    "unit",
    "metering_point",
    "meter",
    "installation",
    "concentrator",
    "concentrator_meter",
    "commissioning",
    "field_rules",
    "customer",
    "account",
    "tenancy",
    "meter_assignment",
    "meter_key",
    "meter_link",
    "holiday_list",
    "calendar_day",
    "tariff_epoch",
    "temporary_let",
    "posting",
)
WRITES: Mapping[str, tuple[str, ...]] = {
    "head_end": (*_DATA_PLANE, *_DATA_STATE, *_AT_METERS, *_INSTRUCTING, *_NOTING, *_ASKING),
    "clerk": (
        *_DATA_PLANE,
        *_DATA_STATE,
        *_SELLING,
        *_BY_DAYS,
        *_MOVING,
        *_ASKING,
        "fleet_look",
        "fleet_day",
        "fleet_total",
        "carried_steps",
        "message_attempt",
        "invitation",
        "event_rebate",
        "event_look",
        "tariff_trial",
        "notify_policy",
        "books_proof",
        "audit_watch",
        "watch_finding",
        "finding_letter",
        "meter_balance_check",
        "meter_wallet",
        *_NOTING,
        "clock_correction",
    ),
    "app_operator": (*_ENTERED, *_DECIDED, *_SELLING, "meter_link"),
    "app_admin": (
        *_DATA_PLANE,
        *_DATA_STATE,
        *_SELLING,
        *_BY_DAYS,
        *_MOVING,
        "fleet_bulk",
        "meter_request",
        "price_event",
        "price_series",
        "carried_steps",
        "tariff_draft",
        "tariff_trial",
        "resale_terms",
        "meter_wallet",
        "tamper_case",
    ),
    "app_auditor": ("audit_event",),
}

#: Who reads for one purpose sees what that takes, and nobody's name, address or message: the keeper what it
#: archives, the witness what the books are recomputed from. Empty: the whole row, which names nobody.
_ARCHIVED = ("interval", "register_reading", "posting", "archived_partition", "archived_account")
_DEVICES = (
    "property", "building", "unit", "metering_point", "meter", "installation", "concentrator",
    "concentrator_meter", "meter_assignment", "meter_link", "radio_link", "meter_state", "register_reading", "vee_case",
    "commissioning", "field_rules",
)  # fmt: skip
_FIGURES = (
    "organisation", "legal_entity", "property", "building", "unit", "metering_point", "meter",
    "installation", "tenancy", "meter_assignment", "holiday_list", "calendar_day", "account_state",
    "meter_state", "meter_link", "interval", "transfer", "posting", "refund", "debt", "tariff",
    "tariff_version", "tariff_assignment", "supply_policy", "supply_state", "books_proof", "ledger_period",
)  # fmt: skip
READS: Mapping[str, Mapping[str, str]] = {
    "keeper": dict.fromkeys(_ARCHIVED, "") | {
        "account_state": "account_id, posted_interval_no",
        "rerate_request": "account_id, from_at, done_at",
        "vee_case": "case_id, state, read_at, watermark_at",
    },
    "witness": dict.fromkeys(
        (*_ARCHIVED, "account_state", "meter_state", "transfer", "ledger_period", "document",
         "document_series", "carried_steps"), ""
    ) | {
        "property": "id, legal_entity_id, currency, time_zone",
        "tariff_version": "id, property_id, content",
        "payment": "id, property_id, account_id, event_id, amount_micro",
    },
    # No money, and of people no more than the number on the door.
    "app_installer": dict.fromkeys(_DEVICES, "") | {
        "account": "id, property_id, number, kind, unit_id, opened_at, closed_at",
        "audit_event": "id, property_id",
        "device_issuer": "",
        "device_certificate": "id, property_id, serial, issuer_id, number, not_after, made_at, "
        "replaced_at, revoked_at",
        "device_code": "property_id, serial, made_at, expires_at, used_at",
        # Whether a key answers; what the meter holds of money is nobody's here.
        "meter_key": "property_id, meter_id, key_id, valid_from, valid_until, revoked_at",
        "instruction_state": "property_id, meter_id, verified_at",
        "meter_wallet": "property_id, meter_id",
    },
    # All figures, and nobody's name.
    "app_owner": dict.fromkeys(_FIGURES, "") | {
        "account": "id, property_id, number, kind, unit_id, opened_at, closed_at",
        "payment": "id, property_id, account_id, event_id, amount_micro, way, paid_at, accepted_at",
    },
    # Their own accounts, by ``_OWN``.
    "app_tenant": {
        "property": "id, name, currency, minor_digits, time_zone, language",
        "building": "id, property_id, code, name",
        "unit": "id, property_id, building_id, code, kind",
        "customer": "id, property_id, name, language",
        "account": "", "tenancy": "", "account_state": "", "transfer": "", "posting": "", "interval": "",
        "payment": "id, property_id, account_id, event_id, amount_micro, way, paid_at, accepted_at",
        "document": "", "message": "", "message_attempt": "",
        "supply_state": "account_id, property_id, desired, level, emergency_micro, payment_hold_until",
        "meter": "id, property_id, serial", "meter_assignment": "",
        "tariff": "", "tariff_version": "", "tariff_assignment": "",
    },
}  # fmt: skip

#: The charges of an account as they accrue, where they stand, and the level that supply watches.
_ACCRUING = (
    *_BY_HAND,
    "accrued_standing",
    "accrued_demand",
    "carry_standing",
    "carry_demand",
    "watch_below",
)
_COLLECTING = ("daily_through", "collected_through", "daily_carry_fee", "daily_carry_tax")
_POSTING = ("posted_interval_no", "posting_no", "spend_per_day")
_REGISTER = ("last_at", "last_value_wh", "received_at", "ahead_uj")
_STANDING = (
    "desired",
    "fired_mask",
    "would_mask",
    "level",
    "level_fired_at",
    "outcome",
    "reason",
    "closed_gates",
    "held",
    "reconsider_at",
)
#: The columns of a table that change after its row was written; all others stay as they were born. A
#: column that an operation shall change is one more word here. What is posted, the numbers of transfers
#: and whose account it is are in no list: only the pen moves them.
CHANGES: Mapping[str, tuple[str, ...]] = {
    # The worker makes the link of an invitation as it writes the letter.
    "invitation": ("token_digest",),
    "property_group": (),
    "property_group_member": (),
    "building": (),
    "unit": (),
    "metering_point": (),
    "meter": (),
    "installation": ("period", "end_value_wh"),
    "concentrator": ("edition",),
    "concentrator_meter": ("period",),
    "commissioning": ("heard_at", "checked_at", "checked_by", "note"),
    "field_rules": ("hear_within_s", "concentrator_silent_s", "changed_at"),
    "customer": (),
    "account": ("closed_at",),
    "tenancy": ("period",),
    "meter_assignment": ("period", "end_value_wh"),
    "holiday_list": ("code", "observed"),
    "calendar_day": ("kind", "counts_as", "note"),
    "account_state": (*_ACCRUING, *_COLLECTING, *_POSTING),
    "demand_day": ("peak_w", "posted"),
    "bound_period": ("energy", "posted", "is_settled"),
    "meter_state": (
        *_REGISTER,
        "opened_at",
        "opened_value_wh",
        "closed_at",
        "multiplier",
        "modulus_wh",
        "max_power_w",
        "expected_period_s",
    ),
    "meter_link": (
        "last_seen_at",
        "relay",
        "relay_read_at",
        "relay_since",
        "clock_drift_s",
        "firmware",
        "tamper_since",
        "concentrator_id",
        "read_by_hand_at",
    ),
    "radio_link": (
        "address",
        "f_cnt",
        "event_id",
        "heard_at",
        "gateway",
        "gateways",
        "rssi_dbm",
        "snr_db_tenths",
        "spreading_factor",
        "heard",
        "lost",
        "duplicates",
        "replays",
        "downlinks",
        "downlinks_lost",
    ),
    "vee_case": ("state", "closed_at", "closed_by", "close_reason"),
    "rejected_frame": (),
    "document_series": ("last_number",),
    "ledger_period": (),
    "tariff_epoch": ("epoch",),
    "rerate_request": ("from_at", "done_at"),
    "tariff_draft": ("name", "content", "reason", "made_by", "changed_at", "edition", "became"),
    "tariff_trial": (
        "state",
        "accounts_done",
        "accounts_total",
        "result",
        "failure",
        "finished_at",
    ),
    "debt": ("closed_at", "ending", "share_ppm", "weekly_cap_micro"),
    "debt_policy": (),
    "refund": (),
    "temporary_let": (
        "units",
        "fee_micro",
        "tried_at",
        "begun_at",
        "fee_event_id",
        "fee_seq",
        "closed_at",
        "closed_by",
        "close_reason",
        "refund_id",
    ),
    "supply_policy": (),
    "supply_state": (*_STANDING, "payment_hold_until"),
    "supply_order": (
        "state",
        "attempts",
        "sent_at",
        "next_try_at",
        "acknowledged_at",
        "finished_at",
        "failure",
    ),
    "meter_key": ("valid_until", "revoked_at"),
    "instruction_state": (
        "last_sequence",
        "known_sequence",
        "known_hash",
        "credit_micro",
        "balance_micro",
        "refused",
        "said_at",
        "verified_at",
        "must_read",
    ),
    "meter_wallet": (),
    "fleet_look": ("looked_to", "last_at", "next_at", "stored", "promised"),
    "fleet_day": ("stored", "promised"),
    "fleet_total": (
        "devices",
        "complete",
        "silent",
        "stored",
        "promised",
        "is_stale",
        "counted_at",
    ),
    "meter_gap": (
        "missing",
        "asked",
        "asked_at",
        "answered",
        "next_at",
        "state",
        "closed_at",
        "reason",
    ),
    # What is asked of whom and how fast is as it was agreed to; how it goes is written as it goes.
    "fleet_bulk": ("state", "state_at", "state_by", "used_to"),
    "meter_request": (
        "state",
        "tries",
        "next_try_at",
        "sent_at",
        "ended_at",
        "result",
        "register_wh",
    ),
    # What was sent never changes; what answered it is written once, as the table's own guard says.
    "instruction": ("state", "tries", "next_try_at", "answer", "result", "answered_at"),
    "notify_policy": ("version", "quiet_starts_min", "quiet_ends_min", "changed_at"),
    "message": ("detail", "due_at", "claim_no", "state", "all_tried_at", "finished_at"),
    "message_attempt": ("state", "error", "next_try_at"),
    "alert": ("detail", "closed_at", "closed_by", "close_note"),
    # Who finds evidence adds it; looking at a case and closing it are the administrators'.
    "tamper_case": ("first_at", "last_at", "evidence_count"),
    "tamper_policy": (),
    "clock_correction": ("after_s", "seen_at"),
    # What is watched for is the auditor's; the worker says how far it has looked.
    "audit_watch": ("seen_transaction",),
    "watch_finding": (),
    "device_issuer": (),
    "device_code": (),
    "device_certificate": (),
}
#: Where one role changes less than others do, or more.
COLUMNS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("head_end", "account_state"): _ACCRUING,
    ("app_operator", "account_state"): ("carry_standing", *_COLLECTING),
    ("head_end", "concentrator"): ("last_seen_at", "clock_drift_s"),
    ("head_end", "meter_state"): _REGISTER,
    ("head_end", "supply_state"): _STANDING,
    ("app_operator", "supply_state"): (*_STANDING, "payment_hold_until"),
    ("app_operator", "vee_case"): (),
    ("head_end", "meter_wallet"): ("seen_seq", "total_micro", "credit_micro", "told_micro"),
    # That a person read it, and that this is no sign of life.
    ("app_operator", "meter_link"): ("last_seen_at", "read_by_hand_at"),
    # Closing one in a person's name is the administrators'.
    ("head_end", "alert"): ("detail", "closed_at"),
    ("app_operator", "alert"): ("detail", "closed_at"),
    ("app_admin", "tariff_trial"): (),
    ("app_operator", "debt"): ("closed_at", "ending"),
    ("clerk", "tamper_case"): (
        "first_at",
        "last_at",
        "evidence_count",
        "response",
        "responded_at",
        "response_kept",
    ),
    ("app_admin", "tamper_case"): (
        "state",
        "looked_by",
        "looked_at",
        "closed_by",
        "closed_at",
        "close_reason",
        "close_note",
    ),
}
#: Tables to which a role adds no row, although it changes some.
ADDS_NOTHING = frozenset(
    (role, table)
    for role in ("head_end", "app_operator")
    for table in ("account_state", "meter_state", "supply_policy", "supply_state", "debt", "refund")
) | {
    ("head_end", "concentrator"),
    ("head_end", "meter_wallet"),
    ("app_operator", "meter_link"),
    ("clerk", "invitation"),
    ("app_admin", "tamper_case"),
    # A bulk begins by what was agreed to, a request by a person by its function: `fleet_pen`.
    *((role, "fleet_bulk") for role in ("head_end", "clerk", "app_admin")),
    ("head_end", "meter_gap"),
    ("head_end", "meter_request"),
    ("app_admin", "meter_request"),
}
#: What the first row may say where the rest has to begin at its default: an account begins at zero,
#: an alert open.
BORN_WITH: Mapping[str, tuple[str, ...]] = {
    "account_state": ("account_id", "property_id", "legal_entity_id", "updated_at"),
    "alert": ("property_id", "code", "subject", "detail", "opened_at"),
    "tamper_case": (
        "property_id",
        "meter_id",
        "account_id",
        "kind",
        "opened_at",
        "first_at",
        "last_at",
        "evidence_count",
    ),
    "instruction_state": ("meter_id", "property_id", "known_hash"),
    # Born as sent: it leaves when it is committed. An answer comes later.
    "instruction": (
        "property_id",
        "meter_id",
        "sequence",
        "operation",
        "argument",
        "order_id",
        "issued_at",
        "expires_at",
        "command",
        "command_hash",
        "tries",
        "next_try_at",
    ),
    # By which login and in which transaction an event was written, the database alone says.
    "audit_event": (
        "property_id",
        "happened_at",
        "actor",
        "code",
        "subject",
        "detail",
        "request_id",
        "duty",
        "address",
        "browser",
        "proposal_id",
    ),
}
#: Whose names the pages show; a digest of a password is read by the sign-in alone.
_NAMES = "id, email, name, language, is_active, created_at"

#: A setting that was local to a transaction is empty afterwards, not absent: both mean no property.
#: In a SELECT of its own the setting is read once to a statement, and not once to a row.
_SEEN = "(SELECT nullif(current_setting('prewatt.properties', true), '')::bigint[])::bigint[]"
_SCOPE = f"property_id = ANY ({_SEEN})"
#: Where the property of a row is not its ``property_id`` column.
_SCOPE_OF = {
    "property": f"id = ANY ({_SEEN})",
    "organisation": "id IN (SELECT organisation_id FROM property)",
    "property_group": "organisation_id IN (SELECT organisation_id FROM property)",
    "legal_entity": "id IN (SELECT legal_entity_id FROM property)",
    "document_series": "legal_entity_id IN (SELECT legal_entity_id FROM property)",
    # A file holds a month of every property; whoever has any may know that it is archived, and where.
    "archived_partition": "nullif(current_setting('prewatt.properties', true), '') IS NOT NULL",
    # People and their duties are of no one property; the functions that ask name one.
    "duty_grant": "true",
    "person_line": "true",
    "app_user": "true",
    "step_up": "true",
    # Changes of tables that are of no one property are every auditor's business.
    "unexplained_change": f"(property_id IS NULL OR {_SCOPE})",
    "second_factor": "true",
    "passkey": "true",
    "passkey_challenge": "true",
    "directory_person": "true",
    "recovery_code": "true",
    "new_factor": "true",
    "sign_in": "true",
    "notice": "true",
}
_ACCOUNTS = "(SELECT nullif(current_setting('prewatt.accounts', true), '')::bigint[])::bigint[]"
#: What a tenant sees: rows of the accounts that ``prewatt.accounts`` names, and what those lead to. A table
#: that is not here shows them nothing. Each condition of another table is held by that table's own policy.
_OWN: Mapping[str, str] = {
    "property": "true",
    "account": f"id = ANY ({_ACCOUNTS})",
    "customer": "id IN (SELECT customer_id FROM account)",
    "unit": "id IN (SELECT unit_id FROM tenancy)",
    "building": "id IN (SELECT building_id FROM unit)",
    "meter": "id IN (SELECT meter_id FROM meter_assignment)",
    "message_attempt": "message_id IN (SELECT id FROM message)",
    "tariff": "id IN (SELECT tariff_id FROM tariff_assignment)",
    "tariff_version": "tariff_id IN (SELECT tariff_id FROM tariff_assignment)",
    **dict.fromkeys(
        ("account_state", "transfer", "posting", "interval", "payment", "document", "message", "tenancy",
         "supply_state", "meter_assignment", "tariff_assignment"),
        f"account_id = ANY ({_ACCOUNTS})",
    ),
}  # fmt: skip
#: What the keeper may do besides making partitions: take a finished month out (``mdm/archive.py``).
_ARCHIVING = (
    "archive_month(date, bytea, bytea, text, text, text, timestamptz)",
    "archive_refusals(date, timestamptz)",
    "archive_reached(timestamptz, timestamptz)",
    "interval_digest(timestamptz, timestamptz)",
    "register_reading_digest(timestamptz, timestamptz)",
    "rating_reach()",
    "purchasers()",
    "archive_chain(bytea)",
)


#: Advisory locks that no login takes: those of two keys alone, which are the ledger's books and the archive's,
#: and all that outlive a transaction. What is left to them ends with their transaction, and is either
#: shared or of one key, of which there are 2^64.
_LOCKS = (
    "pg_advisory_xact_lock(integer, integer)",
    "pg_try_advisory_xact_lock(integer, integer)",
    *(
        f"pg_{way}advisory_lock{kind}({keys})"
        for way in ("", "try_")
        for kind in ("", "_shared")
        for keys in ("bigint", "integer, integer")
    ),
)


#: Tables whose every change needs an event of the audit in the same transaction, each with the column of its
#: property, empty for none; and the columns that may change without (`oversight/sql/0001_oversight.sql`).
#: The data plane is not among them: it has no triggers, and `prewatt books` recomputes it (decision 16).
NOTED: Mapping[str, str] = {
    "organisation": "",
    "legal_entity": "",
    "property": "id",
    "app_user": "",
    "second_factor": "",
    "property_group": "",
    **dict.fromkeys(
        (
            "duty_grant", "proposal", "tariff", "tariff_version", "tariff_assignment", "tariff_draft",
            "account_terms", "price_event", "price_series", "resale_terms", "supply_policy",
            "notify_policy", "debt_policy", "tamper_policy", "debt", "refund", "ledger_period", "building", "unit",
            "metering_point", "meter", "installation", "meter_assignment", "customer", "account",
            "property_group_member", "api_key", "mandate", "meter_key", "tenancy", "holiday_list", "calendar_day", "concentrator", "concentrator_meter",
            "commissioning", "field_rules", "device_issuer", "device_code", "device_certificate",
        ),
        "property_id",
    ),
}  # fmt: skip
UNNOTED: Mapping[str, tuple[str, ...]] = {
    "app_user": ("last_login", "language"),
    "second_factor": ("last_step",),
    "api_key": ("last_used_at",),
    "concentrator": ("last_seen_at", "clock_drift_s", "edition"),
    "commissioning": ("heard_at",),
}


class Cursor(Protocol):
    """What is needed of a database cursor: Django's and psycopg's both have it."""

    def execute(self, query: str | sql.Composed, /) -> object:
        """Run one statement."""

    def fetchall(self) -> Iterable[tuple[object, ...]]:
        """Return the rows of the last statement."""


class WallMissing(RuntimeError):
    """A table stands outside the walls; name it in ``walls.py`` before anybody gets near it."""


def apply(
    cursor: Cursor, *, passwords: Mapping[str, str], web_connections: int = WEB_CONNECTIONS
) -> None:
    """Make roles, grants and policies say what this file says; idempotent, run as owner."""
    with _own_commands(cursor):
        _apply(cursor, passwords, web_connections)


@contextmanager
def _own_commands(cursor: Cursor) -> Iterator[None]:
    """Let what is commanded inside be nobody's change past the program (``oversight/sql/0002_letters.sql``)."""
    cursor.execute("SELECT coalesce(current_setting('prewatt.migrating', true), '')")
    ((before,),) = cursor.fetchall()
    cursor.execute("SELECT set_config('prewatt.migrating', 'yes', false)")
    yield
    after = "yes" if before == "yes" else ""
    cursor.execute(f"SELECT set_config('prewatt.migrating', '{after}', false)")


def _apply(cursor: Cursor, passwords: Mapping[str, str], web_connections: int) -> None:
    _refuse_unlisted_tables(cursor)
    _make_roles(cursor, passwords)
    _bound_web(cursor, web_connections)
    cursor.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    for role in (*LOGINS, *DUTIES, *(pen.role for pen in PENS)):
        cursor.execute(f"GRANT USAGE ON SCHEMA public TO {role}")
        cursor.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}")
    for role, tables in READS.items():
        for table, columns in tables.items():
            cursor.execute(f"GRANT SELECT {f'({columns})' if columns else ''} ON {table} TO {role}")
        cursor.execute(f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM {role}")
    for role in WRITES:
        for table in (*APPEND_ONLY, *MUTABLE):
            cursor.execute(f"GRANT {_rights(role, table)} ON {table} TO {role}")
        cursor.execute(f"GRANT SELECT ({_NAMES}) ON app_user TO {role}")
        cursor.execute(f"GRANT SELECT ON duty_grant TO {role}")
        cursor.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}")
    cursor.execute(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON django_session, sign_in_throttle TO web"
    )
    # Factors are taken up and given up by functions; who takes the web over can give nobody another one.
    cursor.execute("GRANT SELECT, UPDATE (last_step) ON second_factor TO web")
    cursor.execute("GRANT SELECT ON passkey, new_factor TO web")
    cursor.execute(
        "GRANT SELECT, INSERT, UPDATE (last_seen_at, ended_at, ended_why) ON sign_in TO web"
    )
    cursor.execute("GRANT INSERT (user_id, code, detail, made_at, due_at) ON notice TO web")
    # Letters are sent by the worker.
    cursor.execute(
        "GRANT SELECT, UPDATE (due_at, tries, sent_at, given_up_at, error), "
        "INSERT (user_id, code, detail, made_at, due_at) ON notice TO clerk"
    )
    # Whether a colleague and they themselves were written of a finding; not what else letters say.
    cursor.execute("GRANT SELECT (id, sent_at, given_up_at) ON notice TO app_auditor")
    cursor.execute("GRANT SELECT, INSERT (user_id, digest) ON step_up TO web")
    cursor.execute("GRANT SELECT, UPDATE (last_login) ON app_user TO web")
    cursor.execute("GRANT SELECT ON duty_grant, django_content_type TO web")
    cursor.execute("GRANT INSERT, UPDATE (edition) ON concentrator TO app_installer")
    cursor.execute("GRANT INSERT, UPDATE (period) ON concentrator_meter TO app_installer")
    cursor.execute(
        f"GRANT {_of('INSERT', BORN_WITH['audit_event'])} ON audit_event TO app_installer"
    )
    for role in ("keeper", "clerk"):
        cursor.execute(f"GRANT EXECUTE ON FUNCTION make_month_partitions(date, date) TO {role}")
    cursor.execute(f"GRANT EXECUTE ON FUNCTION {', '.join(_ARCHIVING)} TO keeper")
    # Whoever rates anew, or judges a late reading, asks first what is still there.
    raters = ", ".join(role for role in WRITES if "register_reading" in WRITES[role])
    cursor.execute(
        f"GRANT EXECUTE ON FUNCTION correctable_from(), archived_purchasers(bigint[]) TO {raters}"
    )
    for table in (*APPEND_ONLY, *MUTABLE):
        _raise_policy(cursor, table)
    _find_keys(cursor)
    _keep_paid(cursor)
    _lock_up(cursor)
    for table, own in _OWN.items():
        _keep_to_own(cursor, table, own)
    for pen in PENS:
        _hand_out(cursor, pen)
    _see_all_serials(cursor)
    _know_all_places(cursor)
    _close_books(cursor)
    _book_no_future(cursor)
    _note_changes(cursor)
    _note_commands(cursor)
    _show_to_auditors(cursor)


def let_clock_run_ahead(cursor: Cursor, ahead: timedelta) -> None:
    """Say how far this database's clock is before real time; as its owner. Less than nothing is nothing.

    What is booked for later than a day after that clock is refused (``ledger/sql/0013_no_future.sql``).
    """
    seconds = max(0, ceil(ahead.total_seconds()))
    with _own_commands(cursor):
        cursor.execute(
            f"""CREATE OR REPLACE FUNCTION latest_instant() RETURNS timestamptz LANGUAGE sql VOLATILE AS
            $$SELECT clock_timestamp() + interval '1 day {seconds} seconds'$$"""
        )


def _rights(role: str, table: str) -> str:
    rights = ["SELECT"]
    if table in WRITES[role]:
        if (role, table) not in ADDS_NOTHING:
            rights.append(_of("INSERT", BORN_WITH.get(table)))
        if table not in APPEND_ONLY:
            changes = COLUMNS.get((role, table), CHANGES[table])
            rights += [_of("UPDATE", changes)] if changes else []
    return ", ".join(rights)


def _of(right: str, columns: tuple[str, ...] | None) -> str:
    return right if columns is None else f"{right} ({', '.join(columns)})"


def _refuse_unlisted_tables(cursor: Cursor) -> None:
    cursor.execute(
        """SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
           WHERE nspname = 'public' AND relkind IN ('r', 'p') AND NOT relispartition"""
    )
    found = {str(row[0]) for row in cursor.fetchall()}
    unlisted = sorted(found - {*APPEND_ONLY, *MUTABLE, *SIGN_IN, *UNUSED})
    if unlisted:
        raise WallMissing(f"no wall is written for: {', '.join(unlisted)}")


def _make_roles(cursor: Cursor, passwords: Mapping[str, str]) -> None:
    cursor.execute("SELECT rolname FROM pg_roles")
    known = {str(row[0]) for row in cursor.fetchall()}
    for role in (*LOGINS, *DUTIES):
        verb = "ALTER" if role in known else "CREATE"
        bypass = "BYPASSRLS" if role in BYPASS else "NOBYPASSRLS"
        cursor.execute(f"{verb} ROLE {role} NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT {bypass}")
    for role in LOGINS:
        cursor.execute(
            sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(
                sql.Identifier(role), sql.Literal(passwords[role])
            )
        )
    for duty in DUTIES:
        cursor.execute(f"GRANT {duty} TO web")
    for pen in PENS:
        verb = "ALTER" if pen.role in known else "CREATE"
        cursor.execute(
            f"{verb} ROLE {pen.role} "
            "NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOBYPASSRLS"
        )


def _bound_web(cursor: Cursor, connections: int) -> None:
    """Whoever has the web's login leaves connections to the other processes, and holds no lock for long.

    A transaction that is silent for two minutes is ended: a file on its way asks for more rows than once
    in that time, unless nobody takes them any more.
    """
    cursor.execute(f"ALTER ROLE web CONNECTION LIMIT {connections:d}")
    cursor.execute("ALTER ROLE web SET idle_in_transaction_session_timeout = '2min'")


def _raise_policy(cursor: Cursor, table: str) -> None:
    """Scope the table by property; the clerk and the keeper of the ledger serve every property."""
    scope = _SCOPE_OF.get(table, _SCOPE)
    cursor.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    cursor.execute(f"DROP POLICY IF EXISTS by_property ON {table}")
    cursor.execute(
        f"CREATE POLICY by_property ON {table} "
        "TO app_operator, app_admin, app_auditor, app_installer, app_owner "
        f"USING ({scope}) WITH CHECK ({scope})"
    )
    cursor.execute(f"DROP POLICY IF EXISTS for_all ON {table}")
    cursor.execute(
        f"CREATE POLICY for_all ON {table} TO clerk, keeper, witness USING (true) WITH CHECK (true)"
    )


def _find_keys(cursor: Cursor) -> None:
    """A program shows its key before anybody knows its property."""
    cursor.execute("DROP POLICY IF EXISTS at_the_door ON api_key")
    cursor.execute("CREATE POLICY at_the_door ON api_key TO door_pen USING (true)")


def _keep_to_own(cursor: Cursor, table: str, own: str) -> None:
    """Show a tenant the rows of their own accounts, within the property that they are at."""
    cursor.execute(f"DROP POLICY IF EXISTS by_account ON {table}")
    cursor.execute(
        f"CREATE POLICY by_account ON {table} FOR SELECT TO app_tenant "
        f"USING ({_SCOPE_OF.get(table, _SCOPE)} AND {own})"
    )


def _keep_paid(cursor: Cursor) -> None:
    """A refund that was paid out stays so: made due again, it would be paid twice."""
    cursor.execute("DROP POLICY IF EXISTS paid_stays ON refund")
    cursor.execute(
        """CREATE POLICY paid_stays ON refund AS RESTRICTIVE FOR UPDATE
           USING (state = 'due') WITH CHECK (true)"""
    )


def _lock_up(cursor: Cursor) -> None:
    """Take the locks with which a login could hold up everybody from all but who needs them.

    Only a superuser may do so; where the owner is none, they stay with everybody (decision 16).
    """
    cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    if list(cursor.fetchall()) != [(True,)]:
        return
    cursor.execute(f"REVOKE EXECUTE ON FUNCTION {', '.join(_LOCKS)} FROM PUBLIC")
    cursor.execute(
        "GRANT EXECUTE ON FUNCTION pg_advisory_xact_lock(integer, integer) TO ledger_pen"
    )
    cursor.execute("GRANT EXECUTE ON FUNCTION pg_try_advisory_lock(bigint) TO keeper")


def _hand_out(cursor: Cursor, pen: Pen) -> None:
    """Give a pen's functions to their owner and their holders, and let them see the caller's scope.

    Its policies go by the login: a process of ours that serves every property sees every row,
    the web's duties see what ``access.scope`` has set, and whoever comes later sees nothing.
    """
    for function, holders in pen.holders.items():
        cursor.execute(f"ALTER FUNCTION {function} OWNER TO {pen.role}")
        cursor.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
        for role in (*LOGINS, *DUTIES, *(each.role for each in PENS if each is not pen)):
            verb, way = ("GRANT", "TO") if role in holders else ("REVOKE", "FROM")
            cursor.execute(f"{verb} EXECUTE ON FUNCTION {function} {way} {role}")
    for sequence in pen.counts_by:
        cursor.execute(f"GRANT USAGE ON SEQUENCE {sequence} TO {pen.role}")
    cursor.execute("SELECT quote_literal(current_user)")
    ((owner,),) = cursor.fetchall()
    for table, rights in pen.rights.items():
        scope = f"session_user IN ('clerk', 'head_end', {owner}) OR {_SCOPE_OF.get(table, _SCOPE)}"
        cursor.execute(f"GRANT {rights} ON {table} TO {pen.role}")
        cursor.execute(f"DROP POLICY IF EXISTS by_pen ON {table}")
        cursor.execute(f"DROP POLICY IF EXISTS by_{pen.role} ON {table}")
        cursor.execute(
            f"CREATE POLICY by_{pen.role} ON {table} TO {pen.role} "
            f"USING ({scope}) WITH CHECK ({scope})"
        )


def _close_books(cursor: Cursor) -> None:
    """Invariant 10 in the database: no transfer with a service date before the open period."""
    cursor.execute("DROP POLICY IF EXISTS closed_period ON transfer")
    cursor.execute(
        """CREATE POLICY closed_period ON transfer AS RESTRICTIVE FOR INSERT
           TO app_operator, app_admin, clerk, ledger_pen
           WITH CHECK (service_from >= coalesce(
               (SELECT p.open_from::timestamp AT TIME ZONE e.time_zone
                FROM ledger_period p JOIN property e ON e.id = p.property_id
                WHERE p.property_id = transfer.property_id), '-infinity'))"""
    )


def _book_no_future(cursor: Cursor) -> None:
    """Money is booked by now, whoever books it: a time that has not come would stand for ever."""
    for table, latest in (
        ("transfer", "booked_at"),
        ("payment", "greatest(paid_at, accepted_at)"),
        ("document", "issued_at"),
    ):
        cursor.execute(f"DROP POLICY IF EXISTS no_future ON {table}")
        cursor.execute(
            f"""CREATE POLICY no_future ON {table} AS RESTRICTIVE FOR INSERT
                TO app_operator, app_admin, clerk, ledger_pen
                WITH CHECK ({latest} <= latest_instant())"""
        )


def _note_changes(cursor: Cursor) -> None:
    """Have every change of these tables noted where no event of its transaction explains it."""
    for table, column in NOTED.items():
        call = f"EXECUTE FUNCTION note_change('{column}')"
        for name, event, rows in (
            ("insert", "INSERT", "NEW"), ("update", "UPDATE", "NEW"), ("delete", "DELETE", "OLD"),
        ):  # fmt: skip
            made = f"CREATE OR REPLACE TRIGGER noted_{name} AFTER {event} ON {table}"
            if event == "UPDATE" and (silent := UNNOTED.get(table)):
                apart = "'{" + ",".join(silent) + "}'::text[]"
                cursor.execute(
                    f"{made} FOR EACH ROW WHEN (to_jsonb(OLD.*) - {apart} IS DISTINCT FROM "
                    f"to_jsonb(NEW.*) - {apart}) {call}"
                )
            else:
                cursor.execute(
                    f"{made} REFERENCING {rows} TABLE AS changed FOR EACH STATEMENT {call}"
                )


def noting_guards() -> frozenset[tuple[str, str]]:
    """(table, trigger) of every guard that `_note_changes` puts up, for who misses one."""
    return frozenset(
        (table, f"noted_{deed}") for table in NOTED for deed in ("insert", "update", "delete")
    )


def _note_commands(cursor: Cursor) -> None:
    """Have what changes the tables themselves noted, too: a guard taken off, a policy changed, a table dropped.

    Only a superuser may have PostgreSQL do so; where the owner is none, the worker still misses a guard
    that was taken off a table (``oversight/guards.py``, decision 32).
    """
    cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    if list(cursor.fetchall()) != [(True,)]:
        return
    for name, event, function in (
        ("noted_commands", "ddl_command_end", "note_command"),
        ("noted_drops", "sql_drop", "note_drop"),
    ):
        cursor.execute(f"DROP EVENT TRIGGER IF EXISTS {name}")
        cursor.execute(f"CREATE EVENT TRIGGER {name} ON {event} EXECUTE FUNCTION {function}()")


def _show_to_auditors(cursor: Cursor) -> None:
    """Whoever is watched reads neither what is watched for nor what was found."""
    for table in ("audit_watch", "watch_finding", "finding_letter", "unexplained_change"):
        cursor.execute(f"DROP POLICY IF EXISTS auditors_only ON {table}")
        cursor.execute(
            f"""CREATE POLICY auditors_only ON {table} AS RESTRICTIVE TO app_operator, app_admin
                USING (false) WITH CHECK (false)"""
        )
    # What is noted is noted of every property, whatever scope the change was made in.
    for table in ("unexplained_change", "audit_event"):
        cursor.execute(f"DROP POLICY IF EXISTS noted_everywhere ON {table}")
    # A sign-in is refused before anybody has a property.
    cursor.execute("DROP POLICY IF EXISTS noted_everywhere ON property")
    cursor.execute(
        "CREATE POLICY noted_everywhere ON property FOR SELECT TO audit_pen USING (true)"
    )
    cursor.execute(
        """CREATE POLICY noted_everywhere ON unexplained_change TO audit_pen
           USING (true) WITH CHECK (true)"""
    )
    cursor.execute(
        "CREATE POLICY noted_everywhere ON audit_event FOR SELECT TO audit_pen USING (true)"
    )


def _see_all_serials(cursor: Cursor) -> None:
    """A device's serial number is taken at every property, and the pen that says so must see them all."""
    for table in ("meter", "concentrator"):
        cursor.execute(f"DROP POLICY IF EXISTS all_serials ON {table}")
        cursor.execute(f"CREATE POLICY all_serials ON {table} FOR SELECT TO frame_pen USING (true)")


def _know_all_places(cursor: Cursor) -> None:
    """A grant is looked up before anybody has a scope, and says where that may be."""
    for table in (
        "property",
        "property_group",
        "property_group_member",
        "organisation",
        "account",
        "customer",
    ):
        cursor.execute(f"DROP POLICY IF EXISTS all_places ON {table}")
        # A group is written by one function, whose caller looked at every property of it.
        what = "ALL" if table.startswith("property_group") else "SELECT"
        cursor.execute(f"CREATE POLICY all_places ON {table} FOR {what} TO grant_pen USING (true)")
