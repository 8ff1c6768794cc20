"""What each duty and process reads, adds and changes, table by table and column by column."""

from __future__ import annotations

from collections.abc import Mapping

from prewatt.walls.tables import APPEND_ONLY

#: What a reading moves of an account.
BY_HAND = (
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
_RELEASING = ("state", "because", "release_at", "release_by", "ended_at")
_INSTRUCTING = ("instruction_state", "instruction", "instruction_session", "meter_wallet")
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
        "tamper_note",
        "feed_in",
    ),
    "app_auditor": ("audit_event",),
}
#: Who reads for one purpose sees what that takes, and nobody's name, address or message: the keeper what it
#: archives, the witness what the books are recomputed from. Empty: the whole row, which names nobody.
_ARCHIVED = ("interval", "register_reading", "posting", "archived_partition", "archived_account")
_DEVICES = (
    "property", "building", "unit", "metering_point", "meter", "installation", "concentrator",
    "concentrator_meter", "meter_assignment", "meter_link", "radio_link", "meter_state", "register_reading", "vee_case",
    "commissioning", "field_rules", "feed_in",
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
        # What was noticed, and not who pays there or who closed it and why.
        "tamper_case": "id, property_id, meter_id, kind, state, opened_at, first_at, last_at, evidence_count, looked_at",
        "tamper_evidence": "",
        "tamper_note": "",
        "device_issuer": "",
        "device_certificate": "id, property_id, serial, issuer_id, number, not_after, made_at, "
        "replaced_at, revoked_at",
        "device_code": "property_id, serial, made_at, expires_at, used_at",
        # Whether a key answers; what the meter holds of money is nobody's here.
        "meter_key": "property_id, meter_id, key_id, valid_from, valid_until, revoked_at",
        "instruction_state": "property_id, meter_id, verified_at",
        "instruction_session": "property_id, meter_id, begun_at, ended_at",
        "meter_wallet": "property_id, meter_id, state",
    },
    # All figures, and nobody's name.
    "app_owner": dict.fromkeys(_FIGURES, "") | {
        "account": "id, property_id, number, kind, unit_id, opened_at, closed_at",
        "payment": "id, property_id, account_id, event_id, amount_micro, way, paid_at, accepted_at",
    },
    # Their own accounts, by ``OWN``.
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
ACCRUING = (
    *BY_HAND,
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
    "feed_in": ("period", "ended_by"),
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
    "account_state": (*ACCRUING, *_COLLECTING, *_POSTING),
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
        "heard",
        "heard_attempt",
        "sent_at",
        "next_try_at",
        "acknowledged_at",
        "finished_at",
        "failure",
    ),
    "meter_key": ("valid_until", "revoked_at"),
    # Who makes one is the owner; the head-end ends it.
    "instruction_session": ("forged", "ended_at", "ended_why"),
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
        "understands",
        "trusts",
        "limit_w",
        "limit_s",
        "next_key",
        "next_limit_w",
        "next_limit_s",
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
    ("head_end", "account_state"): ACCRUING,
    ("app_operator", "account_state"): ("carry_standing", *_COLLECTING),
    ("head_end", "concentrator"): ("last_seen_at", "clock_drift_s"),
    ("head_end", "meter_state"): _REGISTER,
    ("head_end", "supply_state"): _STANDING,
    ("app_operator", "supply_state"): (*_STANDING, "payment_hold_until"),
    ("app_operator", "vee_case"): (),
    ("head_end", "meter_wallet"): (
        "base_micro",
        "seen_seq",
        "total_micro",
        "credit_micro",
        "told_micro",
        *_RELEASING,
        "end_sequence",
        "end_balance_micro",
        "end_register_wh",
    ),
    # Without an answer a wallet ends on a person's word alone.
    ("app_admin", "meter_wallet"): (*_RELEASING, "ended_by", "end_note"),
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
    ("head_end", "instruction_session"),
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
    "meter_wallet": (
        "property_id",
        "meter_id",
        "account_id",
        "since",
        "base_micro",
        "seen_seq",
        "total_micro",
        "credit_micro",
        "told_micro",
    ),
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
#: Secrets, even sealed ones, are read by who uses them; everybody else sees of such a table these columns.
SHOWN: Mapping[str, tuple[tuple[str, ...], frozenset[str]]] = {
    "instruction_session": (
        (
            "id",
            "property_id",
            "meter_id",
            "number",
            "meter_point",
            "platform_point",
            "offer",
            "after_sequence",
            "forged",
            "begun_at",
            "begun_by",
            "ended_at",
            "ended_why",
        ),
        frozenset({"head_end"}),
    ),
}
#: Whose names the pages show; a digest of a password is read by the sign-in alone.
NAMES = "id, email, name, language, is_active, created_at"
#: What the keeper may do besides making partitions: take a finished month out (``mdm/archive.py``).
ARCHIVING = (
    "archive_month(date, bytea, bytea, text, text, text, timestamptz)",
    "archive_refusals(date, timestamptz)",
    "archive_reached(timestamptz, timestamptz)",
    "interval_digest(timestamptz, timestamptz)",
    "register_reading_digest(timestamptz, timestamptz)",
    "rating_reach()",
    "purchasers()",
    "archive_chain(bytea)",
)


def rights_of(role: str, table: str) -> str:
    shown, readers = SHOWN.get(table, (None, frozenset()))
    rights = [right_on("SELECT", None if role in readers else shown)]
    if table in WRITES[role]:
        if (role, table) not in ADDS_NOTHING:
            rights.append(right_on("INSERT", BORN_WITH.get(table)))
        if table not in APPEND_ONLY:
            changes = COLUMNS.get((role, table), CHANGES[table])
            rights += [right_on("UPDATE", changes)] if changes else []
    return ", ".join(rights)


def right_on(right: str, columns: tuple[str, ...] | None) -> str:
    return right if columns is None else f"{right} ({', '.join(columns)})"
