"""The walls raised in a database: roles made, rights handed out, policies set. After every migration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from math import ceil
from typing import Protocol

from psycopg import sql

from prewatt.walls.pens import PENS, Pen
from prewatt.walls.rights import ARCHIVING, BORN_WITH, NAMES, READS, WRITES, right_on, rights_of
from prewatt.walls.roles import BYPASS, DUTIES, LOGINS, WEB_CONNECTIONS
from prewatt.walls.scopes import OWN, SCOPE, SCOPE_OF
from prewatt.walls.tables import APPEND_ONLY, MUTABLE, NOTED, SIGN_IN, UNNOTED, UNUSED

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


class Cursor(Protocol):
    """What is needed of a database cursor: Django's and psycopg's both have it."""

    def execute(self, query: str | sql.Composed, /) -> object:
        """Run one statement."""

    def fetchall(self) -> Iterable[tuple[object, ...]]:
        """Return the rows of the last statement."""


class WallMissing(RuntimeError):
    """A table stands outside the walls; name it in ``walls/tables.py`` before anybody gets near it."""


def apply(
    cursor: Cursor, *, passwords: Mapping[str, str], web_connections: int = WEB_CONNECTIONS
) -> None:
    """Make roles, grants and policies say what this file says; idempotent, run as owner."""
    with own_commands(cursor):
        _apply(cursor, passwords, web_connections)


@contextmanager
def own_commands(cursor: Cursor) -> Iterator[None]:
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
    bound_web(cursor, web_connections)
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
            cursor.execute(f"GRANT {rights_of(role, table)} ON {table} TO {role}")
        cursor.execute(f"GRANT SELECT ({NAMES}) ON app_user TO {role}")
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
        f"GRANT {right_on('INSERT', BORN_WITH['audit_event'])} ON audit_event TO app_installer"
    )
    for role in ("keeper", "clerk"):
        cursor.execute(f"GRANT EXECUTE ON FUNCTION make_month_partitions(date, date) TO {role}")
    cursor.execute(f"GRANT EXECUTE ON FUNCTION {', '.join(ARCHIVING)} TO keeper")
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
    for table, own in OWN.items():
        _keep_to_own(cursor, table, own)
    for pen in PENS:
        _hand_out(cursor, pen)
    _see_all_serials(cursor)
    _know_all_places(cursor)
    _close_books(cursor)
    _book_no_future(cursor)
    _agree_to_edits(cursor)
    note_changes(cursor)
    _note_commands(cursor)
    _show_to_auditors(cursor)


def let_clock_run_ahead(cursor: Cursor, ahead: timedelta) -> None:
    """Say how far this database's clock is before real time; as its owner. Less than nothing is nothing.

    What is booked for later than a day after that clock is refused (``ledger/sql/0013_no_future.sql``).
    """
    seconds = max(0, ceil(ahead.total_seconds()))
    with own_commands(cursor):
        cursor.execute(
            f"""CREATE OR REPLACE FUNCTION latest_instant() RETURNS timestamptz LANGUAGE sql VOLATILE AS
            $$SELECT clock_timestamp() + interval '1 day {seconds} seconds'$$"""
        )


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


def bound_web(cursor: Cursor, connections: int) -> None:
    """Whoever has the web's login leaves connections to the other processes, and holds no lock for long.

    A transaction that is silent for two minutes is ended: a file on its way asks for more rows than once
    in that time, unless nobody takes them any more.
    """
    cursor.execute(f"ALTER ROLE web CONNECTION LIMIT {connections:d}")
    cursor.execute("ALTER ROLE web SET idle_in_transaction_session_timeout = '2min'")


def _raise_policy(cursor: Cursor, table: str) -> None:
    """Scope the table by property; the clerk and the keeper of the ledger serve every property."""
    scope = SCOPE_OF.get(table, SCOPE)
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
        f"USING ({SCOPE_OF.get(table, SCOPE)} AND {own})"
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
        scope = f"session_user IN ('clerk', 'head_end', {owner}) OR {SCOPE_OF.get(table, SCOPE)}"
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


def _agree_to_edits(cursor: Cursor) -> None:
    """A reading is put right by ``revise_reading`` alone, which asks for what was agreed to.

    By any other way a reading is written once: only where it was withdrawn may a boundary of two payers, written
    down later at that very instant, give it a value again.
    """
    cursor.execute("DROP POLICY IF EXISTS edits_are_agreed ON register_reading")
    cursor.execute(
        """CREATE POLICY edits_are_agreed ON register_reading AS RESTRICTIVE FOR INSERT
           TO app_operator, app_admin, clerk
           WITH CHECK (quality NOT IN (4, 5) AND (
               revision = 0 OR was_withdrawn(meter_id, register_code, read_at, revision - 1)))"""
    )


def note_changes(cursor: Cursor) -> None:
    """Have every change of these tables noted where no event of its transaction explains it."""
    for table, column in NOTED.items():
        call = f"EXECUTE FUNCTION note_change('{column}')"
        for name, event, rows in (
            ("insert", "INSERT", "NEW"), ("update", "UPDATE", "NEW"), ("delete", "DELETE", "OLD"),
        ):  # fmt: skip
            made = f"CREATE OR REPLACE TRIGGER noted_{name} AFTER {event} ON {table}"
            if event == "UPDATE" and (silent := UNNOTED.get(table)):
                olds, news = _watched(cursor, table, silent)
                cursor.execute(
                    f"{made} FOR EACH ROW WHEN (({olds}) IS DISTINCT FROM ({news})) {call}"
                )
            else:
                cursor.execute(
                    f"{made} REFERENCING {rows} TABLE AS changed FOR EACH STATEMENT {call}"
                )


def _watched(cursor: Cursor, table: str, silent: Sequence[str]) -> tuple[str, str]:
    """Every column of a table but the silent ones, as it was and as it is.

    By their names, since to make JSON of whole rows at each change is dear where credit is told to many meters.
    """
    cursor.execute(
        f"""SELECT string_agg('OLD.' || quote_ident(attname), ', ' ORDER BY attnum),
                   string_agg('NEW.' || quote_ident(attname), ', ' ORDER BY attnum)
            FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped
              AND attname <> ALL ('{{{",".join(silent)}}}')"""  # noqa: S608 - our own names
    )
    ((olds, news),) = cursor.fetchall()
    return str(olds), str(news)


def noting_guards() -> frozenset[tuple[str, str]]:
    """(table, trigger) of every guard that `note_changes` puts up, for who misses one."""
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
