"""What a request leaves of its connection is for the next one, unless anything is wrong with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError
from django.db.transaction import atomic
from django.db.utils import ConnectionHandler
from tests.conftest import role_dsn

from prewatt.settings import _database
from prewatt.web.kept_connections import base


@pytest.fixture
def kept(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConnectionHandler]:
    """Connections as a web process has them."""
    monkeypatch.setattr(base, "KEPT", base._Kept())
    login = _database(role_dsn(database, "web"))
    yield ConnectionHandler(
        {"default": login | {"CONN_MAX_AGE": 0, "ENGINE": "prewatt.web.kept_connections"}}
    )
    while (waiting := base.KEPT.take()) is not None:
        waiting.close()


def request(kept: ConnectionHandler, does: Callable[[Any], Any]) -> Any:
    """A request in a thread of its own, and what it found."""
    found: list[Any] = []

    def run() -> None:
        here = kept["default"]
        try:
            found.append(does(here))
        except Exception as error:
            found.append(error)
        finally:
            here.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def pid(here: Any) -> int:
    """Which process of the server answers."""
    with here.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def test_a_request_takes_the_connection_that_another_left(kept: ConnectionHandler) -> None:
    first = request(kept, pid)
    assert request(kept, pid) == first
    # At the same time each has its own.
    both = request(kept, lambda here: (pid(here), request(kept, pid)))
    assert both[0] == first != both[1]
    assert {request(kept, pid), request(kept, pid)} <= set(both)


def test_scope_ends_with_the_request(kept: ConnectionHandler) -> None:
    def scoped(here: Any) -> Any:
        with here.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute(
                """SELECT set_config('role', 'app_admin', true),
                          set_config('prewatt.properties', '{1}', true)"""
            )
            cursor.execute("COMMIT")
            return pid(here)

    def left(here: Any) -> Any:
        with here.cursor() as cursor:
            cursor.execute("SELECT current_user, current_setting('prewatt.properties', true)")
            return pid(here), cursor.fetchone()

    first = request(kept, scoped)
    assert request(kept, left) == (first, ("web", ""))


def test_what_failed_or_is_in_a_transaction_is_not_kept(kept: ConnectionHandler) -> None:
    def fails(here: Any) -> Any:
        at = pid(here)
        with pytest.raises(DatabaseError), here.cursor() as cursor:
            cursor.execute("SELECT nobody")
        return at

    def leaves_open(here: Any) -> Any:
        at = pid(here)
        here.connection.execute("BEGIN")
        return at

    first, failed, left_open, last = (
        request(kept, each) for each in (pid, fails, leaves_open, pid)
    )
    assert first == failed
    assert len({failed, left_open, last}) == 3


def test_what_the_server_closed_is_not_given(database: str, kept: ConnectionHandler) -> None:
    first = request(kept, pid)
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute("SELECT pg_terminate_backend(%s, 5000)", [first])
    assert request(kept, pid) != first


def test_few_are_kept_and_not_for_ever(
    kept: ConnectionHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "KEPT_MAX", 1)
    both = request(kept, lambda here: (pid(here), request(kept, pid)))
    # The inner one was kept, so there was no room for the outer one.
    assert request(kept, pid) == both[1]
    monkeypatch.setattr(base, "AGE_MAX_S", -1.0)
    base.KEPT._until.clear()
    assert request(kept, pid) == both[1]
    assert request(kept, pid) not in both


def test_a_block_that_has_sent_nothing_yet_keeps_its_connection(kept: ConnectionHandler) -> None:
    """Given away, it would be another's while the block goes on with it."""

    def left_open(here: Any) -> Any:
        found = pid(here)
        block = atomic(using="default")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("django.db.transaction.get_connection", lambda _using: here)
            block.__enter__()
            here.close()
        assert here.closed_in_transaction and not base.KEPT._waiting
        return found

    assert request(kept, left_open) != request(kept, pid)


@pytest.mark.parametrize(
    "left",
    [
        "SELECT set_config('role', 'app_admin', false)",
        "SET ROLE app_admin",
        "SET lock_timeout = '10s'",
        "SELECT set_config('prewatt.properties', '{1}', false)",
        "SET search_path = pg_temp, public",
    ],
)
def test_what_was_set_for_longer_than_a_transaction_is_reset(
    kept: ConnectionHandler, left: str
) -> None:
    settings = """SELECT current_user, current_setting('lock_timeout'), current_setting('search_path'),
                      nullif(current_setting('prewatt.properties', true), '')"""

    def state(here: Any) -> Any:
        with here.cursor() as cursor:
            cursor.execute(settings)
            return pid(here), cursor.fetchone()

    def leave(here: Any) -> None:
        with here.cursor() as cursor:
            cursor.execute(left)

    before = request(kept, state)
    request(kept, leave)
    assert request(kept, state) == before, "the same connection, as it was"


def test_prepared_statements_stay(kept: ConnectionHandler) -> None:
    def prepare(here: Any) -> None:
        with here.cursor() as cursor:
            cursor.execute("PREPARE kept_one AS SELECT 1")

    def execute(here: Any) -> Any:
        with here.cursor() as cursor:
            cursor.execute("EXECUTE kept_one")
            return cursor.fetchone()

    request(kept, prepare)
    assert request(kept, execute) == (1,)
