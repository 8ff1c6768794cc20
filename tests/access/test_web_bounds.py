"""What whoever has the web's login can use up: connections, and the time that others wait for its locks."""

from __future__ import annotations

import time

import psycopg
import pytest
from tests.conftest import ROLE_PASSWORD, role_dsn

from prewatt import walls
from prewatt.migrate import stamp_of


def test_the_webs_login_leaves_connections_to_other_processes(database: str) -> None:
    """Few are enough to show it; the roles are those of the whole server, so what is set is set back."""
    open_ones: list[psycopg.Connection] = []
    with psycopg.connect(database, autocommit=True) as owner:
        before = owner.execute("SELECT rolconnlimit FROM pg_roles WHERE rolname = 'web'").fetchone()
        assert before == (walls.WEB_CONNECTIONS,)
        used = owner.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = 'web'")
        (count,) = used.fetchone() or (0,)
        try:
            owner.execute(f"ALTER ROLE web CONNECTION LIMIT {count + 2}")
            with pytest.raises(psycopg.OperationalError, match="too many connections for role"):
                for _ in range(10):
                    open_ones.append(psycopg.connect(role_dsn(database, "web")))
            psycopg.connect(role_dsn(database, "head_end")).close()
        finally:
            owner.execute(f"ALTER ROLE web CONNECTION LIMIT {walls.WEB_CONNECTIONS}")
            for each in open_ones:
                each.close()


def test_how_many_connections_it_has_can_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import date

    stamps = set()
    for number in ("60", "7"):
        monkeypatch.setenv("PREWATT_WEB_CONNECTIONS", number)
        stamps.add(stamp_of(passwords={}, today=date(2026, 11, 17)))
    assert len(stamps) == 2, "a demo that was migrated with another number is migrated again"
    for wrong in ("0", "-1", "many", ""):
        monkeypatch.setenv("PREWATT_WEB_CONNECTIONS", wrong)
        with pytest.raises(ValueError, match="no number of connections"):
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
