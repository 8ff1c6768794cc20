"""What whoever has the web's login can use up: connections, and the time that others wait for its locks."""

from __future__ import annotations

import time
from datetime import date

import psycopg
import pytest
from tests.conftest import role_dsn

from prewatt import walls
from prewatt.migrate import stamp_of
from prewatt.runtime.state import CannotRunError


def test_the_webs_login_leaves_connections_to_other_processes(database: str) -> None:
    """Said to PostgreSQL and asked of it; using them up would shut out the tests beside this one."""
    with psycopg.connect(database, autocommit=True) as owner:
        limits = dict(
            owner.execute(
                "SELECT rolname::text, rolconnlimit FROM pg_roles WHERE rolname = ANY(%s)",
                [[*walls.LOGINS, *walls.DUTIES]],
            ).fetchall()
        )
        assert limits.pop("web") == walls.WEB_CONNECTIONS == 60
        assert set(limits.values()) == {-1}
        with owner.transaction(force_rollback=True), owner.cursor() as cursor:
            walls.bound_web(cursor, 7)
            cursor.execute("SELECT rolconnlimit FROM pg_roles WHERE rolname = 'web'")
            assert cursor.fetchone() == (7,)


def test_how_many_connections_it_has_can_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    stamps = set()
    for number in ("60", "7"):
        monkeypatch.setenv("PREWATT_WEB_CONNECTIONS", number)
        stamps.add(stamp_of(passwords={}, today=date(2026, 11, 17)))
    assert len(stamps) == 2, "a demo that was migrated with another number is migrated again"
    for wrong in ("0", "-1", "many", ""):
        monkeypatch.setenv("PREWATT_WEB_CONNECTIONS", wrong)
        with pytest.raises(CannotRunError, match="no number of connections"):
            stamp_of(passwords={}, today=date(2026, 11, 17))


def test_a_transaction_of_the_web_that_is_silent_is_ended(database: str) -> None:
    with psycopg.connect(role_dsn(database, "web")) as session:
        shown = session.execute("SHOW idle_in_transaction_session_timeout").fetchone()
        assert shown == ("2min",)
        session.execute("SET LOCAL idle_in_transaction_session_timeout = '200ms'")
        time.sleep(0.5)
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            session.execute("SELECT 1")


def test_a_file_on_its_way_takes_longer_than_that_in_all(database: str) -> None:
    """What counts is the time between two of its parts, not that of the whole."""
    with psycopg.connect(role_dsn(database, "web")) as session:
        session.execute("SET LOCAL idle_in_transaction_session_timeout = '600ms'")
        with session.cursor(name="export") as cursor:
            cursor.itersize = 10
            cursor.execute("SELECT generate_series(1, 50)")
            read = 0
            for _ in cursor:
                read += 1
                if read % 10 == 0:
                    time.sleep(0.25)
    assert read == 50
