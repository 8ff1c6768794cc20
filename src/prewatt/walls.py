"""The database's own walls: roles, grants and row-level security, applied after every migration.

Each process signs in with a login of its own; what a login may touch is written here, table by
table, and a table that is not written here makes :func:`apply` fail. Nobody but the owner may ever
UPDATE or DELETE an append-only table. No role has a grant on a partition itself, which would
bypass the parent's policy.

Roles: ``web`` signs in and becomes ``app_operator``, ``app_admin`` or ``app_auditor`` by duty;
``head_end`` writes the data plane (BYPASSRLS, because PostgreSQL refuses COPY into a table with
row-level security); ``clerk`` posts, decides, notifies and closes what ends by itself; ``keeper`` makes partitions; ``witness``
reads the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from psycopg import sql

LOGINS = ("web", "head_end", "clerk", "keeper", "witness")
DUTIES = ("app_operator", "app_admin", "app_auditor")
BYPASS = frozenset({"head_end"})

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
    "tariff_version",
    "tariff_assignment",
    "account_terms",
    "price_event",
    "price_series",
    "carried_steps",
    "resale_terms",
)
#: Business tables that change: estate, watermarks, states.
MUTABLE = (
    "organisation",
    "legal_entity",
    "property",
    "building",
    "unit",
    "metering_point",
    "meter",
    "installation",
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
    "vee_case",
    "rejected_frame",
    "document_series",
    "ledger_period",
    "tariff",
    "tariff_epoch",
    "rerate_request",
    "tariff_draft",
    "tariff_trial",
    "payment",
    "debt",
    "debt_policy",
    "refund",
    "temporary_let",
    "supply_policy",
    "supply_state",
    "supply_order",
    "notify_policy",
    "message",
    "message_attempt",
    "alert",
)
#: Sign-in only: the web's login itself, before any duty is known.
SIGN_IN = ("app_user", "duty_grant", "django_session", "django_content_type", "django_migrations")
UNUSED = ("auth_group", "auth_group_permissions", "auth_permission")

_READ = "SELECT"
_APPEND = "SELECT, INSERT"
_WRITE = "SELECT, INSERT, UPDATE"

#: What each duty and process may write. Everything else it sees, it sees read-only.
_DATA_PLANE = ("register_reading", "interval", "audit_event", "supply_decision")
_DATA_STATE = (
    "account_state",
    "meter_state",
    "meter_link",
    "vee_case",
    "rejected_frame",
    "supply_state",
    "supply_order",
    "supply_policy",
    "message",
    "message_attempt",
    "alert",
    "rerate_request",
)
_BY_DAYS = ("demand_day", "bound_period")
_SELLING = ("transfer", "idempotency", "document", "payment", "debt", "refund", "posting")
_MOVING = (
    "building",
    "unit",
    "metering_point",
    "meter",
    "installation",
    "customer",
    "account",
    "tenancy",
    "meter_assignment",
    "holiday_list",
    "calendar_day",
    "tariff_epoch",
    "temporary_let",
)
WRITES: Mapping[str, tuple[str, ...]] = {
    "head_end": (*_DATA_PLANE, *_DATA_STATE),
    "clerk": (
        *_DATA_PLANE,
        *_DATA_STATE,
        *_SELLING,
        *_BY_DAYS,
        *_MOVING,
        "document_series",
        "tariff_trial",
        "notify_policy",
        "debt_policy",
    ),
    "app_operator": (*_DATA_PLANE, *_DATA_STATE, *_SELLING, "document_series"),
    "app_admin": (
        *_DATA_PLANE,
        *_DATA_STATE,
        *_SELLING,
        *_BY_DAYS,
        *_MOVING,
        "document_series",
        "ledger_period",
        "tariff_assignment",
        "account_terms",
        "price_event",
        "price_series",
        "carried_steps",
        "tariff_draft",
        "tariff_trial",
        "resale_terms",
    ),
    "app_auditor": ("audit_event",),
    "keeper": (),
    "witness": (),
}

#: What the head-end changes of an account: the charges as they accrue, where they stand, and the level
#: that supply watches. A column that ingest shall move is one more line here; what is posted, the
#: numbers of transfers and postings and whose account it is are nobody's business at the meters.
_ACCRUING = (
    "accrued_energy",
    "accrued_standing",
    "accrued_tax",
    "accrued_fee",
    "accrued_demand",
    "accrued_subsidy",
    "carry_energy",
    "carry_standing",
    "carry_tax",
    "carry_fee",
    "carry_demand",
    "carry_subsidy",
    "step_window",
    "step_wh",
    "allowance_window",
    "allowance_wh",
    "interval_no",
    "last_interval_at",
    "watch_below",
    "updated_at",
)
#: Tables of which a role changes these columns only, and to which it adds no row.
COLUMNS: Mapping[tuple[str, str], tuple[str, ...]] = {("head_end", "account_state"): _ACCRUING}

#: A setting that was local to a transaction is empty afterwards, not absent: both mean no property.
_SCOPE = "property_id = ANY (nullif(current_setting('prewatt.properties', true), '')::bigint[])"
#: Where the property of a row is not its ``property_id`` column.
_SCOPE_OF = {
    "property": "id = ANY (nullif(current_setting('prewatt.properties', true), '')::bigint[])",
    "organisation": "id IN (SELECT organisation_id FROM property)",
    "legal_entity": "id IN (SELECT legal_entity_id FROM property)",
    "document_series": "legal_entity_id IN (SELECT legal_entity_id FROM property)",
}


class Cursor(Protocol):
    """What is needed of a database cursor: Django's and psycopg's both have it."""

    def execute(self, query: str | sql.Composed, /) -> object:
        """Run one statement."""

    def fetchall(self) -> Iterable[tuple[object, ...]]:
        """Return the rows of the last statement."""


class WallMissing(RuntimeError):
    """A table stands outside the walls; name it in ``walls.py`` before anybody gets near it."""


def apply(cursor: Cursor, *, passwords: Mapping[str, str]) -> None:
    """Make roles, grants and policies say what this file says; idempotent, run as owner."""
    _refuse_unlisted_tables(cursor)
    _make_roles(cursor, passwords)
    cursor.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    for role in (*LOGINS, *DUTIES):
        cursor.execute(f"GRANT USAGE ON SCHEMA public TO {role}")
        cursor.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}")
    for role in WRITES:
        for table in (*APPEND_ONLY, *MUTABLE):
            cursor.execute(f"GRANT {_rights(role, table)} ON {table} TO {role}")
        cursor.execute(f"GRANT SELECT ON app_user, duty_grant TO {role}")
        cursor.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}")
    cursor.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON django_session TO web")
    cursor.execute("GRANT SELECT, UPDATE ON app_user TO web")
    cursor.execute("GRANT SELECT ON duty_grant, django_content_type TO web")
    for role in ("keeper", "clerk"):
        cursor.execute(f"GRANT EXECUTE ON FUNCTION make_month_partitions(date, date) TO {role}")
    for table in (*APPEND_ONLY, *MUTABLE):
        _raise_policy(cursor, table)
    _close_books(cursor)


def _rights(role: str, table: str) -> str:
    if table not in WRITES[role]:
        return _READ
    columns = COLUMNS.get((role, table))
    if columns is not None:
        return f"SELECT, UPDATE ({', '.join(columns)})"
    return _APPEND if table in APPEND_ONLY else _WRITE


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


def _raise_policy(cursor: Cursor, table: str) -> None:
    """Scope the table by property; the clerk and the keeper of the ledger serve every property."""
    scope = _SCOPE_OF.get(table, _SCOPE)
    cursor.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    cursor.execute(f"DROP POLICY IF EXISTS by_property ON {table}")
    cursor.execute(
        f"CREATE POLICY by_property ON {table} TO app_operator, app_admin, app_auditor "
        f"USING ({scope}) WITH CHECK ({scope})"
    )
    cursor.execute(f"DROP POLICY IF EXISTS for_all ON {table}")
    cursor.execute(
        f"CREATE POLICY for_all ON {table} TO clerk, keeper, witness USING (true) WITH CHECK (true)"
    )


def _close_books(cursor: Cursor) -> None:
    """Invariant 10 in the database: no transfer with a service date before the open period."""
    cursor.execute("DROP POLICY IF EXISTS closed_period ON transfer")
    cursor.execute(
        """CREATE POLICY closed_period ON transfer AS RESTRICTIVE FOR INSERT
           TO app_operator, app_admin, clerk
           WITH CHECK (service_from >= coalesce(
               (SELECT p.open_from::timestamp AT TIME ZONE e.time_zone
                FROM ledger_period p JOIN property e ON e.id = p.property_id
                WHERE p.property_id = transfer.property_id), '-infinity'))"""
    )
