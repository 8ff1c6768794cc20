"""A change past the program is noted, with who and from where; one of the program explains itself."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.conftest import role_dsn
from tests.invariants.places import NOW, World, place

from prewatt import walls
from prewatt.access.scope import system_actor
from prewatt.debts.operations import Policy, set_policy
from prewatt.mandates.at_machine import note_key
from prewatt.oversight.guards import tell_of_missing_guards
from prewatt.oversight.key_file import digest_of_file, tell_of_changed_keys
from prewatt.oversight.models import UnexplainedChange
from prewatt.oversight.operations import look

Session = psycopg.Connection[Any]


def noted(session: Session) -> list[tuple[Any, ...]]:
    """(table, operation, rows, login, role) of what nobody explained, in the order noted; then forget it."""
    return session.execute(
        """WITH gone AS (DELETE FROM unexplained_change RETURNING *)
           SELECT table_name, operation, row_count, login, role FROM gone ORDER BY id"""
    ).fetchall()


@pytest.fixture
def here(database: str) -> World:
    return place()


def test_raw_sql_is_noted_and_the_program_explains_itself(database: str, here: World) -> None:
    with psycopg.connect(database, autocommit=True) as owner:
        noted(owner)
        owner.execute("UPDATE customer SET name = name WHERE property_id = %s", [here.property_id])
        ((table, operation, size, _, role),) = noted(owner)
        assert (table, operation, role) == ("customer", "update", "none") and size > 0
        owner.execute("UPDATE customer SET name = name WHERE false")
        owner.execute("UPDATE app_user SET last_login = now(), language = 'zh-hans'")
        assert noted(owner) == []

        # The duty's own credential, straight at the database.
        with psycopg.connect(role_dsn(database, "web"), autocommit=True) as web:
            web.execute("SET ROLE app_admin")
            web.execute(
                "SELECT set_config('prewatt.properties', %s, false)", [f"{{{here.property_id}}}"]
            )
            web.execute("UPDATE account SET closed_at = now() WHERE number = 'OWN-LIFT'")
            assert noted(owner) == [("account", "update", 1, "web", "app_admin")]
            # Looking is no explanation, nor is a deed elsewhere or in another transaction.
            with web.transaction():
                web.execute(
                    """INSERT INTO audit_event (property_id, happened_at, actor, code, subject, detail)
                       VALUES (%s, now(), 'user:1', 'reads.account', 'account:1', '{}')""",
                    [here.property_id],
                )
                web.execute("UPDATE account SET closed_at = NULL WHERE number = 'OWN-LIFT'")
            assert noted(owner) == [("account", "update", 1, "web", "app_admin")]
            for forged in ("login", "transaction"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    web.execute(
                        f"""INSERT INTO audit_event (property_id, happened_at, actor, code, subject,
                                detail, {forged}) VALUES (%s, now(), 'a', 'b', 'c', '{{}}', '1')""",
                        [here.property_id],
                    )
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                web.execute("DELETE FROM unexplained_change")

        set_policy(
            actor=system_actor("owner"), property_id=here.property_id, now=NOW, policy=Policy()
        )
        assert noted(owner) == []
        assert UnexplainedChange.objects.count() == 0


def test_what_takes_a_guard_off_is_noted_and_missed(database: str, here: World) -> None:
    """The owner may take every guard off; the command is noted, and the worker misses what is gone."""
    with psycopg.connect(database, autocommit=True) as owner:
        assert tell_of_missing_guards(expected=walls.noting_guards(), now=NOW) == 0
        look(now=NOW)
        noted(owner)
        # Functions of ours that a process calls make tables and say nothing.
        with psycopg.connect(role_dsn(database, "keeper"), autocommit=True) as keeper:
            keeper.execute("SELECT make_month_partitions('2031-01-01', '2031-01-01')")
        owner.execute("CREATE TEMP TABLE mine (n int); DROP TABLE mine")
        assert noted(owner) == []
        owner.execute("ALTER TABLE customer DISABLE TRIGGER noted_update")
        owner.execute("DROP TRIGGER noted_delete ON account")
        owner.execute("GRANT UPDATE ON account TO web")
        assert [each[:2] for each in noted(owner)] == [
            ("public.customer", "command"), ("noted_delete on public.account", "drop"), ("TABLE", "command"),
        ]  # fmt: skip
        assert tell_of_missing_guards(expected=walls.noting_guards(), now=NOW) == 2
        assert tell_of_missing_guards(expected=walls.noting_guards(), now=NOW) == 0, "once a day"
        assert (
            tell_of_missing_guards(expected=walls.noting_guards(), now=NOW + timedelta(days=1)) == 2
        )
        owner.execute("ALTER EVENT TRIGGER noted_commands DISABLE")
        tell_of_missing_guards(expected=walls.noting_guards(), now=NOW)
        found = owner.execute(
            "SELECT subject, detail ->> 'guard' FROM watch_finding WHERE happened_at = %s ORDER BY 1",
            [NOW],
        ).fetchall()
        assert found == [
            ("table:account", "noted_delete"), ("table:customer", "noted_update"),
            ("table:database", "noted_commands"),
        ]  # fmt: skip
        # Another test gets this database.
        owner.execute("ALTER EVENT TRIGGER noted_commands ENABLE")
        owner.execute("ALTER TABLE customer ENABLE TRIGGER noted_update")
        walls.note_changes(owner.cursor())
        owner.execute("REVOKE UPDATE ON account FROM web")


def test_a_file_of_keys_that_is_changed_past_the_command_is_told_once(
    database: str, here: World, tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    path.write_text("first")
    assert tell_of_changed_keys(path=path, now=NOW) == 0, "nobody has said anything of it"
    note_key(
        by="system:keys",
        code="signing.key_made",
        subject="key:a",
        now=NOW,
        file=digest_of_file(path),
    )
    assert tell_of_changed_keys(path=path, now=NOW) == 0
    for change in (lambda: path.write_text("second"), path.unlink):
        change()
        assert tell_of_changed_keys(path=path, now=NOW) == 1
        assert tell_of_changed_keys(path=path, now=NOW) == 0, "the same content once"
    with psycopg.connect(database) as owner:
        assert owner.execute(
            "SELECT count(*) FROM audit_event WHERE code = 'signing.file_changed' AND property_id = %s",
            [here.property_id],
        ).fetchall() == [(2,)]
        assert owner.execute(
            "SELECT count(*) FROM alert WHERE code = 'audit.past_program'"
        ).fetchall() == [(1,)]


def test_every_watched_table_is_there_and_guarded(database: str) -> None:
    with psycopg.connect(database) as owner:
        guarded = owner.execute(
            """SELECT tgrelid::regclass::text, count(*) FROM pg_trigger
               WHERE tgname LIKE 'noted\\_%' AND tgenabled = 'O' GROUP BY 1"""
        ).fetchall()
    assert dict(guarded) == dict.fromkeys(walls.NOTED, 3)
    assert set(walls.NOTED) <= {*walls.MUTABLE, *walls.APPEND_ONLY, *walls.SIGN_IN}
